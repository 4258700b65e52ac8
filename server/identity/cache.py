"""Identities that are kept: in memory, over the database, over the directory. Decides when to ask.

Promises. One look-up of a DID at a time in a process. What was found is fresh for FRESH_S, and
usable for USABLE_S while the directory fails us. Failures are remembered. Strangers' look-ups have
a budget: whoever sends tokens with made-up issuers uses that up, and nobody else's time. Look-ups
and those who wait for them hold MAX_WAITING threads at most, however slow the directory is. What
the database learned (of a changed document, of another process's look-up) is noticed within a
minute. Where nothing can be written, memory is enough. Nothing here starts a thread; a look-up
happens in the thread that asks.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from server.core.budget import Budget
from server.core.errors import FetchFailed, NotFound
from server.core.syntax import is_did
from server.identity.did import Directory, Identity
from server.identity.entry import LONGEST_WAIT_S, Entry, again
from server.storage.authors import StoredIdentity
from server.storage.spare_writes import SpareWrites

# Identities in memory, about half a kilobyte each.
MAX_IDENTITIES = 20_000

# Seconds for a look-up without which there is no answer, and for one that may as well fail. The
# AppView waits 5 s for a page in all.
LOOKUP_S = 2.5
RECHECK_S = 1.0

# Seconds for which "there is no such account" and "it could not be looked up" are remembered; they
# double with every repetition, from the first to the second number.
NOT_FOUND_S = (60, LONGEST_WAIT_S)
FAILED_S = (10, 60)

# Look-ups at once, and then for each second. Strangers with a did:plc; everybody's did:web, where
# the host is the stranger's own and may be slow on purpose; look-ups on demand.
PLC_STRANGERS = (50, 10.0)
WEB_STRANGERS = (3, 0.5)
REFRESHES = (20, 2.0)


# Threads that look up, or wait for the look-up of another, at the same time.
MAX_WAITING = 8

_TOO_MANY = "too many look-ups of identities, try again soon"


class IdentityStore(Protocol):
    """The part of server/storage/authors.py that is needed here; the module itself fits."""

    def load_identity(self, did: str, /) -> StoredIdentity | None:
        """What was saved for an account."""

    def save_identity(
        self,
        did: str,
        handle: str | None,
        pds_url: str | None,
        signing_key: str | None,
        checked_us: int,
        /,
    ) -> None:
        """Save it, if the account is one that we know."""


class IdentityCache:
    """The identities that this process knows. Safe to share between threads."""

    def __init__(
        self,
        directory: Directory,
        store: IdentityStore,
        now_us: Callable[[], int],
        count: Callable[[bool], None] = lambda is_hit: None,
        *,
        max_waiting: int = MAX_WAITING,
        writes: SpareWrites | None = None,
    ) -> None:
        """`count` is told for each `get` whether the answer was in memory or the database.

        `writes`: those that the rest of an answer has as well.
        """
        self._count = count
        self._directory = directory
        self._store = store
        self._now_us = now_us
        self._places = threading.BoundedSemaphore(max_waiting)
        # Guards everything below. Never held during a look-up or a statement.
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._plc_strangers = Budget(*PLC_STRANGERS)
        self._web_strangers = Budget(*WEB_STRANGERS)
        self._refreshes = Budget(*REFRESHES)
        self._writes = writes or SpareWrites()

    def get(self, did: str, *, is_stranger: bool = True) -> Identity:
        """The identity of an account, from the nearest place that has it.

        `is_stranger=False` spares an account the budget: it is for callers that have the DID from
        our own tables. Raises NotFound if the account does not exist, FetchFailed if that cannot
        be said; what the database raises when it is read goes through.
        """
        now_us = self._now_us()
        entry = self._entry(did, now_us)
        is_settled = entry.is_fresh(now_us) or entry.is_waiting(now_us)
        self._count(is_settled)
        if is_settled:
            return entry.known() if entry.is_fresh(now_us) else entry.usable(now_us)
        if entry.identity is not None:
            return self._recheck(did, entry, now_us)
        budget = None
        if is_stranger:
            budget = self._web_strangers if _is_web(did) else self._plc_strangers
        return self._look_up(did, LOOKUP_S, budget)

    def refresh(self, did: str) -> Identity:
        """The identity as it is now, for somebody who has reason to doubt the cached one.

        At most one look-up for each DID in REFRESH_EVERY_S; in between the cached one is returned.
        Raises as `get` does.
        """
        now_us = self._now_us()
        entry = self._entry(did, now_us)
        if entry.was_looked_up(now_us):
            return entry.known()
        if entry.is_waiting(now_us):
            raise again(entry.error)
        budget = self._web_strangers if _is_web(did) else self._refreshes
        return self._look_up(did, RECHECK_S, budget)

    def forget(self, did: str) -> None:
        """The document may have changed: the next `get` looks it up, within REFRESH_EVERY_S.

        Concerns this process's memory; for the others the row in the database is marked.
        """
        with self._lock:
            entry = self._entries.get(did)
            if entry is not None:
                entry.outdated_us = self._now_us()

    def _entry(self, did: str, now_us: int) -> Entry:
        with self._lock:
            entry = self._entries.get(did)
            if entry is not None:
                self._entries.move_to_end(did)
                if entry.needs_no_look(now_us):
                    return entry
        if not is_did(did):
            raise FetchFailed("not the DID of an account, not looked up")
        stored = self._store.load_identity(did)
        if entry is not None:
            entry.compared_us = now_us
        # Another process may have looked it up meanwhile.
        if stored is not None and (entry is None or stored.checked_us > entry.checked_us):
            identity = Identity(did, stored.handle, stored.pds_url, stored.signing_key)
            return self._remember(did, Entry(identity, stored.checked_us, compared_us=now_us))
        # Or the stream may have said that the document has changed.
        if stored is not None and stored.checked_us == 0 and entry is not None:
            entry.outdated_us = now_us
        return entry or Entry()

    def _recheck(self, did: str, entry: Entry, now_us: int) -> Identity:
        """Look a known account up again, but do not make it wait for a directory that is down."""
        with self._lock:
            is_under_way = did in self._flights
        if is_under_way and entry.is_usable(now_us):
            return entry.known()
        try:
            return self._look_up(did, RECHECK_S if entry.is_usable(now_us) else LOOKUP_S, None)
        except NotFound:
            raise
        except FetchFailed:
            if entry.is_usable(now_us):
                return entry.known()
            raise

    def _look_up(self, did: str, deadline_s: float, budget: Budget | None) -> Identity:
        if not self._places.acquire(blocking=False):
            raise FetchFailed(_TOO_MANY, 1.0)
        try:
            return self._look_up_or_wait(did, deadline_s, budget)
        finally:
            self._places.release()

    def _look_up_or_wait(self, did: str, deadline_s: float, budget: Budget | None) -> Identity:
        with self._lock:
            flight = self._flights.get(did)
            if flight is None:
                if budget is not None and not budget.take(self._now_us()):
                    raise FetchFailed(_TOO_MANY, 1.0)
                flight = self._flights[did] = _Flight()
                is_mine = True
            else:
                is_mine = False
        if not is_mine:
            flight.is_over.wait(LOOKUP_S)
            return flight.result()
        try:
            flight.identity = self._ask_directory(did, deadline_s)
        except FetchFailed as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[did]
            flight.is_over.set()
        return flight.identity

    def _ask_directory(self, did: str, deadline_s: float) -> Identity:
        # The time before the question: an answer may be older than its arrival.
        asked_us = self._now_us()
        try:
            found = self._directory.resolve(did, deadline_s)
        except FetchFailed as error:
            self._remember_failure(did, error)
            raise
        self._remember(did, Entry(found, asked_us, compared_us=asked_us))
        kept = (did, found.handle, found.pds_url, found.signing_key, asked_us)
        self._writes.attempt("an identity", lambda: self._store.save_identity(*kept))
        return found

    def _remember_failure(self, did: str, error: FetchFailed) -> None:
        now_us = self._now_us()
        is_gone = isinstance(error, NotFound)
        first_s, most_s = NOT_FOUND_S if is_gone else FAILED_S
        with self._lock:
            old = self._entries.get(did) or Entry()
        failures = old.failures + 1
        delay_s = min(first_s * 2 ** min(failures - 1, 10), most_s)
        entry = Entry(
            identity=None if is_gone else old.identity,
            checked_us=old.checked_us,
            error=error,
            failures=failures,
            retry_us=now_us + delay_s * 1_000_000,
            compared_us=now_us,
        )
        self._remember(did, entry)

    def _remember(self, did: str, entry: Entry) -> Entry:
        with self._lock:
            old = self._entries.get(did)
            if old is not None:
                # Doubts that came up while the directory was being asked are not settled by it; nor
                # are those of a time to come, by a clock that was ahead, but by the next look-up.
                doubted_us = min(old.outdated_us, self._now_us())
                entry.outdated_us = max(entry.outdated_us, doubted_us)
            self._entries[did] = entry
            self._entries.move_to_end(did)
            if len(self._entries) > MAX_IDENTITIES:
                self._entries.popitem(last=False)
        return entry


@dataclass(slots=True)
class _Flight:
    """A look-up under way, and what came of it."""

    is_over: threading.Event = field(default_factory=threading.Event)
    identity: Identity | None = None
    error: FetchFailed | None = None

    def result(self) -> Identity:
        if self.identity is None:
            raise again(self.error)
        return self.identity


def _is_web(did: str) -> bool:
    return did.startswith("did:web:")
