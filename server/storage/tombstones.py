"""Memory of what the stream deleted, and of what it wrote while a backfill was reading.

A page of a repo is as old as the rev that was read before it. What the stream said at a later rev
wins over the page, and what it said at an earlier one does not: hence a rev beside every mark.

A `#sync` may put a repo back to an earlier rev: what was done between that and the `#sync` is
undone, and pages from that rev on say what is there (`put_back`). A rev is the time of its commit:
one up to that of the `#sync` came before it, and no other is touched. So a `#sync` that is told
again, or by a source that is behind, undoes nothing that came after it.
"""

from collections.abc import Iterable, Mapping, Sequence

from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, rows
from server.storage.many_rows import (
    delete_rows,
    execute_in,
    insert_rows,
    rows_between,
    rows_by_key,
    update_rows,
)
from server.storage.records import Key

_RECORD = ("author_id", "rkey", "collection")


def load(keys: Iterable[Key]) -> dict[Key, tuple[int, bool]]:
    """The rev of each record that has a mark, and whether the mark says that it is alive."""
    found = rows_by_key(
        "t.author_id, t.rkey, t.collection, t.rev, t.is_alive",
        "tombstones",
        _RECORD,
        keys,
    )
    return {(row[0], row[1], row[2]): (row[3], bool(row[4])) for row in found}


def write(marks: Mapping[Key, tuple[int, bool]], now_us: int) -> None:
    """Remember for each record that it was deleted, or is alive, at a rev."""
    insert_rows(
        "INSERT INTO tombstones (author_id, rkey, collection, rev, is_alive, written_us)",
        [(*key, rev, int(is_alive), now_us) for key, (rev, is_alive) in marks.items()],
        "ON CONFLICT (author_id, collection, rkey) DO UPDATE SET rev = excluded.rev,"
        " is_alive = excluded.is_alive, written_us = excluded.written_us",
    )


def put_back(repos: Sequence[tuple[int, int, int]]) -> None:
    """These repos, by number, stand at a rev again; with each, the last rev that is void by that.

    The marks stay, at the rev to which the repo was put back: they win over a replay of what was
    before that, as they did, but over no page.
    """
    found = rows_between(
        "t.author_id, t.rkey, t.collection, v.column2 - 1",
        "tombstones",
        ("author_id", "rev"),
        [(number, rev + 1, last) for number, rev, last in repos if rev < last],
    )
    update_rows("tombstones", ("rev",), _RECORD, found)


def forget(keys: Iterable[Key]) -> None:
    """These records were made again, and no backfill is reading."""
    delete_rows("tombstones", _RECORD, list(keys))


def take_deleted(author_id: int, collection: int, limit: int) -> dict[Key, int]:
    """Forget that these records were deleted, of so many; with each, when that was told."""
    found = rows(
        "SELECT rkey, written_us FROM tombstones"
        " WHERE author_id = ? AND collection = ? AND is_alive = 0 LIMIT ?",
        (author_id, collection, limit),
    )
    deleted = {(author_id, rkey, collection): written_us for rkey, written_us in found}
    forget(deleted)
    return deleted


def forget_alive(author_ids: Sequence[int]) -> None:
    """The backfills of these authors are over: what is alive needs no mark any more."""
    execute_in("DELETE FROM tombstones WHERE is_alive = 1 AND author_id", author_ids)


@retry_conflicts
def expire(before_us: int) -> int:
    """Forget what was deleted before then, longer ago than anything could bring it back.

    But not where a backfill is under way, whenever that was by a clock that may have been behind.
    """
    return execute(
        "DELETE FROM tombstones WHERE written_us < ? AND NOT EXISTS"
        " (SELECT 1 FROM backfill_jobs j WHERE j.author_id = tombstones.author_id)",
        (before_us,),
    )
