"""Rows of `feed_items`: saving, changing and dropping posts and reposts, each in its one place.

Everything here runs inside the caller's transaction, which holds the lock on the repos whose
records it writes; so nobody else writes the same records meanwhile.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.core.projection import KEY_TIE_BITS, RecordRef, SaveItem, sort_key
from server.core.syntax import FOLLOW, POST, REPOST
from server.storage import outside_posts, records
from server.storage.authors import author_ids
from server.storage.database import rows
from server.storage.many_rows import execute_in, insert_rows, rows_in, update_rows
from server.storage.newest import renew_newest
from server.storage.records import Key, row_flags
from server.storage.rkeys import encode_rkeys

log = logging.getLogger(__name__)

COLLECTIONS = {POST: 0, REPOST: 1, FOLLOW: 2}

# Equal records (of one millisecond, with one CID) stand beside each other. Nobody writes this many;
# whoever does it on purpose loses the rest of them, and costs us a query for every WINDOW_KEYS.
MAX_EQUALS = 65_536
WINDOW_KEYS = 4_096

_COLUMNS = ", ".join(records.COLUMNS)
# What an edit can change; before them stand the row's id, its author and its record key.
_CONTENT = records.COLUMNS[3:]


@dataclass(frozen=True, slots=True)
class Names:
    """The numbers of accounts and record keys, got before the transaction that uses them."""

    authors: Mapping[str, int]
    rkeys: Mapping[str, int]

    def of(self, ref: RecordRef | None) -> tuple[int | None, int | None]:
        """A reference as numbers."""
        return (None, None) if ref is None else (self.authors[ref.did], self.rkeys[ref.rkey])


def who_has_more_than(count: int, author_ids: Iterable[int]) -> set[int]:
    """Those of these authors of whom we hold more items than so many."""
    found = rows_in(
        "SELECT r.author_id FROM repos r WHERE (SELECT 1 FROM feed_items i"
        " WHERE i.author_id = r.author_id LIMIT 1 OFFSET ?) = 1 AND r.author_id",
        sorted(set(author_ids)),
        before=(count,),
    )
    return {number for (number,) in found}


def name(changes: Iterable[object], dids: Iterable[str]) -> Names:
    """The numbers of everything that `changes` speak of, and of `dids`.

    Call it outside the transaction: numbers are given out in statements of their own.
    """
    accounts, rkeys = set(dids), set()
    for change in changes:
        rkeys.add(change.rkey)  # type: ignore[attr-defined]
        if isinstance(change, SaveItem):
            for ref in (change.subject, change.root):
                if ref is not None:
                    accounts.add(ref.did)
                    rkeys.add(ref.rkey)
        else:
            subject = getattr(change, "subject", None)
            if subject is not None:
                accounts.add(subject)
    return Names(author_ids(accounts), encode_rkeys(rkeys))


def save_items(items: Mapping[Key, SaveItem], names: Names) -> None:
    """Insert what is new; change what is there, in its place unless its date is earlier now."""
    if not items:
        return
    present, crowded = records.find_to_save(items)
    touched: set[int] = set()
    moved: list[int] = []
    changed: list[Sequence[Any]] = []
    placed: list[tuple[int, Sequence[Any]]] = []
    for key, item in items.items():
        author_id, rkey, collection = key
        is_repost = collection == COLLECTIONS[REPOST]
        flags = row_flags(item.flags, repost=is_repost, crowded=author_id in crowded)
        values = (author_id, rkey, flags, *names.of(item.subject), *names.of(item.root))
        old = present.get(key)
        if old is None:
            placed.append((sort_key(item.sort_ms, item.tie), values))
        elif item.created_ms < old[0] >> KEY_TIE_BITS:
            moved.append(old[0])
            placed.append((sort_key(item.created_ms, item.tie), values))
        elif tuple(old[1:]) != values:
            changed.append((old[0], *values[2:]))
            touched.add(author_id)
    update_rows("feed_items", _CONTENT, ("id",), changed)
    execute_in("DELETE FROM feed_items WHERE id", moved)
    inserted = _with_free_keys(placed)
    insert_rows(f"INSERT INTO feed_items ({_COLUMNS})", inserted)
    # Also of those for whom no place was left: they may have lost the one that they had.
    renew_newest(touched.union(values[0] for _, values in placed))
    outside_posts.want(_hanging_on(inserted))


def drop_items(keys: Iterable[Key]) -> int:
    """Delete these records; how many were there."""
    found = records.find_to_drop(set(keys))
    execute_in("DELETE FROM feed_items WHERE id", [row[0] for row in found.values()])
    renew_newest(author_id for author_id, *_ in found)
    return len(found)


def _hanging_on(inserted: list[Sequence[Any]]) -> Iterator[tuple[int, int, int]]:
    """The posts that new replies hang on, parent and root, with the place of the reply."""
    for row in inserted:
        if not records.is_repost(row[3]):
            for account, rkey in ((row[4], row[5]), (row[6], row[7])):
                if account is not None:
                    yield account, rkey, row[0]


def _with_free_keys(placed: list[tuple[int, Sequence[Any]]]) -> list[Sequence[Any]]:
    """Rows with their final sort keys: equals follow each other, so that every key is unique."""
    taken = {
        key for (key,) in rows_in("SELECT id FROM feed_items WHERE id", {key for key, _ in placed})
    }
    following: dict[int, Iterator[int]] = {}
    done: list[Sequence[Any]] = []
    for key, values in placed:
        free = key
        if key in taken:
            later = following.setdefault(key, _free_after(key))
            free = next((one for one in later if one not in taken), key)
            if free in taken:
                log.warning("item left out: over %d equal ones at one place", MAX_EQUALS)
                continue
        taken.add(free)
        done.append((free, *values))
    return done


def _free_after(key: int) -> Iterator[int]:
    """Keys above `key` that no row has, in order. Asks for a window of rows at a time."""
    for start in range(key + 1, key + 1 + MAX_EQUALS, WINDOW_KEYS):
        used = {
            row[0]
            for row in rows(
                "SELECT id FROM feed_items WHERE id >= ? AND id < ?", (start, start + WINDOW_KEYS)
            )
        }
        yield from (one for one in range(start, start + WINDOW_KEYS) if one not in used)
