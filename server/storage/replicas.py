"""Streaming replicas of PostgreSQL, from which pages are read, so that the primary can write.

Promises. **A page from a replica is one that the primary could have given.** It shows everything
that was committed when it was asked for: the primary is asked for its position in its log, which
costs it next to nothing, and a replica answers only after it has replayed that much. So nothing
that was taken away comes back: no deleted post, no author who was unfollowed, went or was hidden.
Pages of one feed join, wherever each was read, and a viewer's next page is never older than the
last. (A replica can show a commit a moment before the primary does, where commits wait for other
servers.)

Nothing but pages of feeds is read here. What decides about writing, waiting or alarms is asked of
the primary.

Whatever a replica does (lag, hang, refuse, break off, cancel, be promoted, be somebody else's), the
page comes: from another replica, or from the primary. That costs MAX_SECONDS at most, for all
replicas together, and then the replica rests (replica.py). Replicas spare the primary; they
do not stand in for it: where it does not tell its position, there is no page.

Bounds: MAX_SECONDS; MAX_LAG_SECONDS of waiting (wal.py); STATEMENT_MS for a statement;
`max_connections` to each replica; MAX_REPLICAS (core/database_urls.py).
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from server.core.errors import ReplicaUnfit
from server.storage import wal
from server.storage.reader import reading_from
from server.storage.replica import Replica
from server.storage.replica_connection import BUSY
from server.storage.wal import Position

# The AppView gives up after 5 s; a first page may have waited half of that, and the primary needs
# some.
MAX_SECONDS = 1.5
# A look at one replica, for operators.
LOOK_SECONDS = 1.0

PRIMARY_NAME = "primary"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica at this moment. `problem`: one of REASONS, with the server's words for it."""

    name: str
    problem: str | None
    detail: str
    lag_bytes: int | None


class Replicas:
    """All replicas of a process; none is fine. Safe to share between threads.

    `count_page` is told where each page was read, `count_refusal` which replica could not give one,
    and why.
    """

    def __init__(
        self,
        urls: Sequence[str],
        max_connections: int,
        count_page: Callable[[str], None] = lambda place: None,
        count_refusal: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self._replicas = [Replica(url, max_connections) for url in urls]
        self._count_page = count_page
        self._count_refusal = count_refusal

    def read(self, ask: Callable[[], R]) -> R:
        """What `ask` reads, which may be called more than once and must not write.

        Raises DatabaseError like any question to the primary.
        """
        until = time.monotonic() + MAX_SECONDS
        position: Position | ReplicaUnfit | None = None
        for replica in self._in_turn():
            failures = replica.enter(until)
            if failures is None:
                continue
            try:
                if position is None:
                    position = _position()
                found = _read_from(replica, position, until, ask)
            except ReplicaUnfit as unfit:
                self._count_refusal(replica.name, unfit.reason)
                # To be busy is no failure. On trial it has to answer all the same.
                if unfit.reason != BUSY or failures:
                    replica.leave(failures, unfit)
                if time.monotonic() >= until:
                    break
            else:
                replica.leave(failures, None)
                self._count_page(replica.name)
                return found
        self._count_page(PRIMARY_NAME)
        return ask()

    def look(self) -> list[ReplicaState]:
        """Each replica as it is now, whether it rests or not. Raises DatabaseError."""
        if not self._replicas:
            return []
        position = _position()
        return [_look_at(replica, position) for replica in self._replicas]

    def close(self) -> None:
        """Close idle connections."""
        for replica in self._replicas:
            replica.close()

    def _in_turn(self) -> list[Replica]:
        """The least busy first; of equals, any."""
        shuffled = random.sample(self._replicas, len(self._replicas))
        return sorted(shuffled, key=lambda replica: replica.in_use)


def _position() -> Position | ReplicaUnfit:
    """The primary's, or why it does not tell."""
    try:
        return wal.position_of_primary()
    except ReplicaUnfit as unfit:
        return unfit


def _read_from(
    replica: Replica, position: Position | ReplicaUnfit, until: float, ask: Callable[[], R]
) -> R:
    if isinstance(position, ReplicaUnfit):
        raise position
    with replica.connection(until) as connection:
        wal.require_origin(connection, position)
        wal.wait_for(connection, position)
        with reading_from(connection):
            return ask()


def _look_at(replica: Replica, position: Position | ReplicaUnfit) -> ReplicaState:
    lag_bytes = None
    try:
        if isinstance(position, ReplicaUnfit):
            raise position
        with replica.connection(time.monotonic() + LOOK_SECONDS) as connection:
            lag_bytes = wal.lag_bytes(connection, position)
            wal.require_origin(connection, position)
            wal.wait_for(connection, position)
    except ReplicaUnfit as unfit:
        return ReplicaState(replica.name, unfit.reason, unfit.message, lag_bytes)
    return ReplicaState(replica.name, None, "", lag_bytes)
