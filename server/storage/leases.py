"""Who leads: the one process whose stream reader and backfill may write.

The lock says who leads now, and ends with its holder (see `locks`). The epoch says who led last: a
process that was paused, lost the lock and wakes up late finds a higher one and writes nothing.
"""

from dataclasses import dataclass

from server.core.errors import LeaseLost
from server.storage import locks
from server.storage.crash_points import crash_point
from server.storage.database import execute, is_sqlite, rows, value, write_transaction
from server.storage.touched import touch_everybody

NAME = "ingest"

# The leader writes a sign of life every 2 s, between batches. A batch is never this long.
LEADER_SILENT_SECONDS = 30
# Clocks of two machines may differ; a sign of life from further ahead says nothing of now.
LEADER_AHEAD_SECONDS = 3600


@dataclass(slots=True)
class Lease:
    """The lead, held. `epoch` is higher than that of everybody who led before."""

    epoch: int
    lock: locks.Lock

    def is_held(self) -> bool:
        """Whether the lock is still ours; costs a round trip on PostgreSQL."""
        return self.lock.is_held()

    def release(self) -> None:
        """Let another process lead."""
        self.lock.release()


def acquire(holder: str, now_us: int) -> Lease | None:
    """The lead, if nobody has it. Raises DatabaseError; then it is as free as before."""
    lock = locks.acquire(NAME)
    if lock is None:
        return None
    try:
        epoch = _write_down(holder, now_us)
        crash_point("lead: taken")
    except BaseException:
        # Nothing else would: a descriptor that is forgotten keeps the lead from us as well.
        lock.release()
        raise
    return Lease(epoch, lock)


def fence(epoch: int) -> None:
    """Raises LeaseLost in the caller's transaction if somebody leads with a higher epoch.

    The row is locked against a new leader until the transaction ends.
    """
    lock = "" if is_sqlite() else "FOR SHARE"
    leader = value(f"SELECT epoch FROM leases WHERE name = ? {lock}", (NAME,))
    if leader != epoch:
        raise LeaseLost(f"epoch {epoch} led, {leader} leads now")


def confirm(epoch: int, version: int) -> None:
    """The stream's reader has every repo of the tracked set up to `version`."""
    crash_point("tracked: read, not confirmed")
    execute(
        "UPDATE leases SET confirmed_version = ? WHERE name = ? AND epoch = ?",
        (version, NAME, epoch),
    )
    crash_point("tracked: confirmed")


def report(epoch: int, alive_us: int, connected_us: int | None) -> None:
    """A sign of life, and since when the source has been connected; None: it is not."""
    execute(
        "UPDATE leases SET alive_us = ?, connected_us = ? WHERE name = ? AND epoch = ?",
        (alive_us, connected_us, NAME, epoch),
    )


@dataclass(frozen=True, slots=True)
class Leader:
    """What the leader last said of itself."""

    holder: str
    epoch: int
    alive_us: int
    connected_us: int | None
    confirmed_version: int


def leader() -> Leader | None:
    """The process that leads or led last."""
    found = rows(
        "SELECT holder, epoch, alive_us, connected_us, confirmed_version"
        " FROM leases WHERE name = ?",
        (NAME,),
    )
    return Leader(*found[0]) if found else None


def is_silent(last: Leader, now_us: int) -> bool:
    """Whether the last sign of life is not one of now."""
    silent_s = (now_us - last.alive_us) / 1_000_000
    return not -LEADER_AHEAD_SECONDS <= silent_s <= LEADER_SILENT_SECONDS


def trouble(now_us: int) -> str | None:
    """Why the stream is not being read now; None if it is."""
    last = leader()
    if last is None:
        return "no ingest process has led yet"
    if is_silent(last, now_us):
        silent_s = (now_us - last.alive_us) / 1_000_000
        if silent_s > 0:
            return f"the leading ingest process has been silent for {silent_s:.0f} s"
        return "the clock of the leading ingest process is, or was when it died, hours ahead"
    if last.connected_us is None:
        return "the stream is not connected"
    return None


def _write_down(holder: str, now_us: int) -> int:
    with write_transaction():
        epoch = rows(
            "INSERT INTO leases (name, epoch, holder, acquired_us, alive_us) VALUES (?, 1, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder,"
            " acquired_us = excluded.acquired_us, alive_us = excluded.alive_us,"
            " connected_us = NULL, confirmed_version = -1 RETURNING epoch",
            (NAME, holder, now_us, now_us),
        )[0][0]
        # Whoever led before may have been of a version that notes less.
        touch_everybody()
    return int(epoch)
