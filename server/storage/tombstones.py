"""Memory of what the stream deleted, and of what it wrote while a backfill was reading.

A page of a repo is as old as the rev that was read before it. What the stream said at a later rev
wins over the page, and what it said at an earlier one does not: hence a rev beside every mark.
"""

from collections.abc import Iterable, Mapping, Sequence

from server.storage.conflicts import retry_conflicts
from server.storage.database import execute
from server.storage.many_rows import delete_rows, execute_in, insert_rows, rows_by_key
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


def forget(keys: Iterable[Key]) -> None:
    """These records were made again, and no backfill is reading."""
    delete_rows("tombstones", _RECORD, list(keys))


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
