"""A relay: the events of all PDSes in one stream with numbers of its own. Stores no repos."""

from collections import Counter
from collections.abc import Callable

from simnet import stream
from simnet.event_log import Window
from simnet.faults import Faults
from simnet.frames import Body
from simnet.http_server import LoopbackServer, Reply, Request, Upgrade, xrpc_error
from simnet.repo import Commit
from simnet.stream import Stream
from simnet.world import World

# The relays in use number their events like this; small numbers would hide overflows.
FIRST_SEQ = 26_000_000_000


class Relay:
    """Fed by `receive`, in the order of the calls."""

    def __init__(
        self,
        world: World,
        clock: Callable[[], int],
        faults: Faults,
        *,
        name: str = "relay",
        first_seq: int = FIRST_SEQ,
        window: Window | None = None,
        announces_cursor_trouble: bool = False,
    ) -> None:
        # Why events were refused.
        self.refused: Counter[str] = Counter()
        self.stream = Stream(
            name,
            clock,
            faults,
            announces_cursor_trouble=announces_cursor_trouble,
            first_seq=first_seq,
            window=window,
        )
        self.server = LoopbackServer(name, self._handle, faults)
        self._world = world
        self._held: list[tuple[str, Body, Commit | None]] | None = None
        # Empty: all of them.
        self._held_hosts: set[int] = set()
        self._faults = faults

    @property
    def url(self) -> str:
        """The address for STREAM_URLS."""
        return f"ws://127.0.0.1:{self.server.port}{stream.PATH}"

    def receive(self, pds: int, kind: str, body: Body, commit: Commit | None) -> None:
        """Take an event from a PDS; refuse what that host may not say."""
        with self._world.lock:
            did = body.get("repo") or body["did"]
            state = self._world.accounts[did]
            if kind != "#identity" and state.pds != pds:
                self.refused["not the current host"] += 1
            elif kind in ("#commit", "#sync") and state.status != "active":
                self.refused["account is not active"] += 1
            elif self._held is not None and (not self._held_hosts or pds in self._held_hosts):
                self._held.append((kind, body, commit))
            else:
                self.stream.append(kind, body, commit)

    def hold(self, pds: int | None = None) -> None:
        """Fall behind: events wait until `release`, while the PDSes have them already.

        With `pds`, only with that host: the others' events overtake. Whom it is behind with
        already, it stays behind with: no event of a host overtakes an earlier one of its own.
        """
        with self._world.lock:
            if pds is None:
                self._held_hosts = set()
            elif self._held is None or self._held_hosts:
                self._held_hosts.add(pds)
            self._held = self._held or []

    def release(self) -> int:
        """Catch up. Returns how many events had waited."""
        with self._world.lock:
            waiting, self._held = self._held or [], None
            if waiting and self._held_hosts:
                self._faults.count("stream-overtaken")
            self._held_hosts = set()
            for kind, body, commit in waiting:
                self.stream.append(kind, body, commit)
            return len(waiting)

    def _handle(self, request: Request) -> Reply | Upgrade:
        if request.path == stream.PATH:
            return self.stream.answer(request)
        if request.path == "/xrpc/_health":
            return Reply({"status": "ok"})
        return xrpc_error(501, "MethodNotImplemented", "Method Not Implemented")
