"""The fault plan: what is to go wrong, where, how often, and how often it did.

A fault is armed by name and fires when a server asks for it. Every firing is counted, so that
a test can show that what it meant to survive has happened. Faults that happen at once (cutting
connections, starting the numbers afresh) are methods of the streams and are counted here too.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

# Every name that may be armed. Settings in brackets; the rest of `arm` holds for all.
ARMABLE = {
    "http-slow": "answer after delay_s",
    "http-500": "an XRPC error body with status 500",
    "http-503-html": "what a proxy says when the server behind it is away",
    "http-404-html": "what a proxy says that does not know of its server",
    "http-429": "RateLimitExceeded with Retry-After of retry_after_s (1)",
    "http-hang": "accept the request and say nothing for delay_s (until the network stops)",
    "http-drop": "cut the connection without an answer",
    "http-cut-body": "promise a body and cut the connection in the middle of it",
    "http-huge": "an endless-looking body of size bytes (50 million), never JSON",
    "http-garbage": "status 200, JSON content type, no JSON",
    "rev-future": "getLatestCommit names a rev of next year",
    "list-foreign": "listRecords names records of somebody else",
    "list-same-cursor": "listRecords pages repeat for ever",
    "list-empty-page": "listRecords gives an empty page with a cursor before the end",
    "list-own-cursor": "listRecords goes on after a word of its own, and knows no place by its key",
    "list-upwards": "listRecords begins with the least key; what its cursor names comes again",
    "list-shuffled": "listRecords goes by something else than the key, and so does its cursor",
    "list-broken-record": "listRecords puts a record without value in front",
    "stream-drop": "the event gets a number and is lost",
    "stream-duplicate": "the event comes twice under one number",
    "stream-too-big": "a #commit comes as tooBig, without operations",
    "stream-no-chain": "a #commit comes without prevData and prev, as old servers sent it",
    "stream-no-blocks": "a #commit comes without its records' blocks",
}


@dataclass
class _Plan:
    name: str
    left: int | None
    every: int
    where: dict[str, object]
    settings: dict[str, Any]
    seen: int = 0


class Faults:
    """Shared by all servers of a network; safe from any thread."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()

    def arm(
        self,
        name: str,
        *,
        times: int | None = 1,
        every: int = 1,
        where: dict[str, object] | None = None,
        **settings: Any,
    ) -> None:
        """Let a fault happen `times` times (None: until disarmed), at each `every`th occasion.

        `where` narrows the occasions: host ("pds0", "plc", "relay"), method, repo, collection,
        kind ("#commit"). Stream faults mean the relay unless they name another host.
        """
        if name not in ARMABLE:
            raise ValueError(f"no fault is called {name}; there are {', '.join(ARMABLE)}")
        # Every event passes a PDS before it comes to the relay; one loss is to be one loss.
        narrow = {"host": "relay", **(where or {})} if name.startswith("stream-") else where or {}
        with self._lock:
            self._plans.append(_Plan(name, times, every, narrow, settings))

    def disarm(self, name: str | None = None) -> None:
        """Forget a fault, or all; the counts stay."""
        with self._lock:
            self._plans = [plan for plan in self._plans if name is not None and plan.name != name]

    def take(self, name: str, **context: object) -> dict[str, Any] | None:
        """The settings of the fault if it is to happen now, else None. Counts."""
        with self._lock:
            for plan in self._plans:
                if plan.name != name or plan.left == 0:
                    continue
                if any(context.get(key) != value for key, value in plan.where.items()):
                    continue
                plan.seen += 1
                if plan.seen % plan.every:
                    continue
                if plan.left is not None:
                    plan.left -= 1
                self.fired[name] += 1
                return plan.settings
        return None

    def count(self, name: str) -> None:
        """Note a fault that was not armed but done."""
        with self._lock:
            self.fired[name] += 1
