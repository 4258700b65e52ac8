"""Positions in the primary's log: what it has committed, and how much of that a replica shows.

A position is a number of bytes from the beginning of the log. Whatever of ours anybody could see on
the primary before it was asked for its position is in the log up to there. So a replica that has
replayed this much shows all of it, and no clock was asked.

A replica is one of *our* database when it has the primary's system identifier and timeline (the
history of the log: every promotion begins a new one), and our tables under the same numbers, and
when it is not ahead of the primary. The last tells a copy that went its own way and kept the rest:
its log grows differently.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from server.core.errors import ReplicaUnfit
from server.storage.database import DatabaseError, database, rows
from server.storage.replica_connection import (
    FAILING,
    FOREIGN,
    LAGGING,
    PRIMARY,
    ReplicaConnection,
)

# How long a page waits for a replica to replay what was committed before the page was asked for.
# It is milliseconds behind, as a rule, and a page takes as long.
MAX_LAG_SECONDS = 0.1
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.016
# A replica can be given another primary while we are connected. It is looked at again after this.
PROVEN_SECONDS = 10.0

# Our commits wait for the disk (prepared.py), and are not seen before they are on it.
_COMMITTED = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"
_END = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
_REPLAYED = "SELECT pg_is_in_recovery(), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint"
_ORIGIN = (
    "SELECT (SELECT system_identifier FROM pg_control_system()),"
    " (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),"
    " to_regclass('feed_items')::oid::bigint, {timeline}"
)
ORIGIN_OF_PRIMARY = _ORIGIN.format(
    timeline="('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint"
)
# Each is noted a while after a new timeline has begun, and never before.
_ORIGIN_OF_REPLICA = _ORIGIN.format(
    timeline="greatest((SELECT timeline_id FROM pg_control_checkpoint()),"
    " (SELECT min_recovery_end_timeline FROM pg_control_recovery()))::bigint"
)


class Origin(NamedTuple):
    """Which database it is, of which server, in which history. `tables` is the number of one."""

    system: int
    database: int
    tables: int | None
    timeline: int


@dataclass(frozen=True, slots=True)
class Position:
    """What the primary had committed when it was asked."""

    origin: Origin
    committed: int


def position_of_primary() -> Position:
    """Where the primary is now. Raises DatabaseError, or ReplicaUnfit where it may not be asked."""
    try:
        # A connection leads to one server as long as it lives.
        connection = database.connection()
        if connection.origin is None:
            connection.origin = Origin(*rows(ORIGIN_OF_PRIMARY)[0])
        return Position(connection.origin, int(rows(_COMMITTED)[0][0]))
    except DatabaseError as error:
        # A managed service may refuse these functions to its customers; a standby has no position.
        if (getattr(error.__context__, "pgcode", None) or "").startswith(("42", "55")):
            raise ReplicaUnfit(FAILING, f"the primary tells no position: {error}") from error
        raise


def require_origin(connection: ReplicaConnection, position: Position) -> None:
    """Raise ReplicaUnfit unless the connection leads to a replica of this primary."""
    now = time.monotonic()
    if connection.origin == position.origin and now - connection.origin_found < PROVEN_SECONDS:
        return
    replayed = _replayed(connection)
    found = Origin(*connection.rows(_ORIGIN_OF_REPLICA)[0])
    if found != position.origin:
        if found._replace(tables=position.origin.tables) == position.origin and (
            replayed < position.committed
        ):
            # The tables themselves may be still to come.
            raise ReplicaUnfit(LAGGING, f"{position.committed - replayed} bytes behind")
        raise ReplicaUnfit(FOREIGN, "another system, database or timeline than the primary's")
    # What it has replayed by now, the primary had written before.
    if replayed > rows(_END)[0][0]:
        raise ReplicaUnfit(FOREIGN, "ahead of the primary: its log went another way")
    connection.origin, connection.origin_found = found, now


def wait_for(connection: ReplicaConnection, position: Position) -> None:
    """Return when the replica shows all that the primary had committed at this position.

    Raises ReplicaUnfit when that takes too long, or it replays nothing any more.
    """
    give_up = min(connection.until, time.monotonic() + MAX_LAG_SECONDS)
    pause_s = _FIRST_PAUSE_SECONDS
    while _replayed(connection) < position.committed:
        if time.monotonic() + pause_s > give_up:
            behind = lag_bytes(connection, position)
            raise ReplicaUnfit(LAGGING, f"{behind} bytes behind after {MAX_LAG_SECONDS} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_SECONDS)


def lag_bytes(connection: ReplicaConnection, position: Position) -> int:
    """How much of the log the replica has not replayed."""
    return max(0, position.committed - _replayed(connection))


def _replayed(connection: ReplicaConnection) -> int:
    is_replica, replayed = connection.rows(_REPLAYED)[0]
    if not is_replica:
        raise ReplicaUnfit(PRIMARY, "it replays nothing: a primary, and no replica")
    return 0 if replayed is None else int(replayed)
