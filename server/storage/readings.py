"""What the database itself tells about how things stand: the numbers that are true for everybody.

Cheap enough to be asked every few seconds: tables are counted that are small, or over an index.
"""

import shutil
from dataclasses import dataclass

from server.storage import leases, overview, repos
from server.storage.database import is_sqlite, rows, sqlite_path
from server.storage.leases import Leader

STATES = {
    repos.LET_GO: "let_go",
    repos.PENDING: "pending",
    repos.PARTIAL: "partial",
    repos.LIVE: "complete",
}
PRIORITIES = {
    repos.VIEWER_FOLLOWS: "viewer_follows",
    repos.NEWEST_PAGE: "newest_page",
    repos.NEWEST_OF_MANY: "newest_of_many",
    repos.OLDER_PAGES: "older_pages",
}
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Readings:
    """One look at the database.

    `event_ms`: when the newest event was written whose changes are saved. `queue`: jobs by what is
    fetched, and whether they failed the last time. `gaps`: open ones by scope, with when the oldest
    was opened. `disk`: total and free bytes where an SQLite file lives; None for PostgreSQL.
    """

    leader: Leader | None
    event_ms: int | None
    queue: dict[tuple[str, str], int]
    gaps: dict[str, tuple[int, int]]
    repos: dict[str, int]
    viewers: int
    viewers_of_today: int
    database_bytes: int
    disk: tuple[int, int] | None


def read(now_us: int) -> Readings:
    """How things stand now."""
    viewers = rows(
        "SELECT count(*), sum(CASE WHEN last_us > ? THEN 1 ELSE 0 END) FROM viewers",
        (now_us - DAY_US,),
    )[0]
    # The source that was read last: an older one is history.
    sources = overview.sources()[:1]
    return Readings(
        leader=leases.leader(),
        event_ms=sources[0].event_ms if sources else None,
        queue=_queue(),
        gaps=_gaps(),
        repos={
            STATES[state]: int(count)
            for state, count in rows("SELECT state, count(*) FROM repos GROUP BY state")
        },
        viewers=int(viewers[0]),
        viewers_of_today=int(viewers[1] or 0),
        database_bytes=overview.database_bytes(),
        disk=_disk(),
    )


def _queue() -> dict[tuple[str, str], int]:
    counts = {(kind, state): 0 for kind in PRIORITIES.values() for state in ("waiting", "failing")}
    found = rows(
        "SELECT priority, CASE WHEN attempts > 0 THEN 1 ELSE 0 END, count(*) FROM backfill_jobs"
        " GROUP BY 1, 2"
    )
    for priority, is_failing, count in found:
        counts[PRIORITIES[priority], "failing" if is_failing else "waiting"] += int(count)
    return counts


def _gaps() -> dict[str, tuple[int, int]]:
    found = rows(
        "SELECT CASE WHEN author_id IS NULL THEN 'everybody' ELSE 'author' END, count(*),"
        " min(opened_us) FROM gaps WHERE closed_us IS NULL GROUP BY 1"
    )
    return {scope: (int(count), int(opened_us)) for scope, count, opened_us in found}


def _disk() -> tuple[int, int] | None:
    if not is_sqlite():
        return None
    usage = shutil.disk_usage(sqlite_path().resolve().parent)
    return usage.total, usage.free
