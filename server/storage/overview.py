"""How much there is, how much waits, and how far each source is read: for operators. It only reads.

Bounds: the queue is counted whole (one row for each repo that is not complete); items are counted
up to COUNTED_ITEMS, since an exact number of a hundred million is worth no minute of reading.
"""

from dataclasses import dataclass

from server.storage import outside_posts, repos
from server.storage.database import is_sqlite, rows, sqlite_path, value

COUNTED_ITEMS = 20_000_000

QUEUES = {
    repos.VIEWER_FOLLOWS: "follows of viewers",
    repos.NEWEST_PAGE: "newest pages",
    repos.NEWEST_OF_MANY: "newest pages of many",
    repos.OLDER_PAGES: "older pages",
}


@dataclass(frozen=True, slots=True)
class Source:
    """The last event of a source whose changes are saved, and when that was."""

    host: str
    seq: int
    event_ms: int
    written_us: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Backfill jobs of one priority. `oldest_due_us`: since when the first one could have run."""

    name: str
    waiting: int
    due: int
    failing: int
    oldest_due_us: int | None


@dataclass(frozen=True, slots=True)
class Counts:
    """`authors` are tracked repos, viewers among them; `items` is COUNTED_ITEMS for "or more"."""

    viewers: int
    authors: int
    items: int
    outside_posts_waiting: int
    database_bytes: int


def sources() -> list[Source]:
    """Each source that was ever read and not forgotten, the last one read first."""
    found = rows(
        "SELECT host, seq, event_ms, written_us FROM stream_cursors ORDER BY written_us DESC"
    )
    return [Source(*row) for row in found]


def queues(now_us: int) -> list[Queue]:
    """The backfill's queue, the most urgent part first."""
    found = {
        row[0]: row[1:]
        for row in rows(
            "SELECT priority, count(*), sum(CASE WHEN not_before_us <= ? THEN 1 ELSE 0 END),"
            " sum(CASE WHEN attempts > 0 THEN 1 ELSE 0 END),"
            " min(CASE WHEN not_before_us <= ? THEN not_before_us END)"
            " FROM backfill_jobs GROUP BY priority",
            (now_us, now_us),
        )
    }
    nothing = (0, 0, 0, None)
    return [Queue(name, *found.get(priority, nothing)) for priority, name in QUEUES.items()]


def counts() -> Counts:
    """How much of everything there is."""
    return Counts(
        viewers=int(value("SELECT count(*) FROM viewers")),
        authors=int(value("SELECT count(*) FROM repos WHERE state <> ?", (repos.LET_GO,))),
        items=count_items(),
        outside_posts_waiting=int(
            value(f"SELECT count(*) FROM outside_posts WHERE state = {outside_posts.WANTED}")
        ),
        database_bytes=database_bytes(),
    )


def count_items() -> int:
    """The items, up to COUNTED_ITEMS: a second or so where there are millions."""
    return int(value("SELECT count(*) FROM (SELECT 1 FROM feed_items LIMIT ?) i", (COUNTED_ITEMS,)))


def database_bytes() -> int:
    """What it takes on disk."""
    if not is_sqlite():
        return int(value("SELECT pg_database_size(current_database())"))
    path = sqlite_path()
    # What is not yet moved from the log into the file takes room as well.
    parts = (path, path.with_name(f"{path.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())
