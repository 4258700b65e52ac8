"""The rows that a PDS's pages make: many authors' pages by one set of statements.

All of it runs inside the caller's transaction, which holds the lock on the authors' repos.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from server.core.projection import SaveFollow, SaveItem
from server.core.syntax import FOLLOW, is_tid, tid_to_int
from server.storage import items, records, rkeys, tombstones
from server.storage.crash_points import crash_point
from server.storage.follows import drop_follows, priority_of_more, save_follows
from server.storage.group_commit import Group
from server.storage.items import COLLECTIONS
from server.storage.many_rows import rows_between, rows_in
from server.storage.records import Key

_MAX_TID = 2**63 - 1
# By the index of those that stand apart, as all odd keys do.
_IS_ODD = (
    f"{records.KIND.format(i='i.')} IN (0, {records.REPOST}) AND i.rkey < 0"
    f" AND {records.IS_APART.format(i='i.')}"
)


@dataclass(frozen=True, slots=True)
class Page:
    """Records of one collection as a PDS listed them, in descending order of their keys.

    It covers every key from `lower` (None: the least) up to, but not with, `upper` (None: beyond
    the greatest): a record of ours in there that is not `listed` is gone.
    """

    collection: str
    changes: Sequence[SaveItem | SaveFollow]
    listed: Set[str]
    upper: str | None
    lower: str | None


def save_pages(
    pages: Sequence[tuple[int, Page]], snapshot_revs: Mapping[int, int], group: Group
) -> None:
    """Pages with the numbers of their authors, no two of one author and collection.

    What they list is there now, what they do not list is gone; but for what the stream has said of
    a record at a later rev than the author's snapshot has.
    """
    listed: dict[Key, SaveItem | SaveFollow] = {}
    for author_id, page in pages:
        number = COLLECTIONS[page.collection]
        for change in page.changes:
            listed[author_id, group.names.rkeys[change.rkey], number] = change
    gone = _vanished(pages)
    marks = tombstones.load([*listed, *gone])
    newer = {key for key, (rev, _) in marks.items() if rev > snapshot_revs[key[0]]}
    _drop([key for key in gone if key not in newer])
    kept = {key: change for key, change in listed.items() if key not in newer}
    items.save_items({k: c for k, c in kept.items() if isinstance(c, SaveItem)}, group.names)
    _save_follows({k: c for k, c in kept.items() if isinstance(c, SaveFollow)}, group)
    crash_point("page: inside")


def least_keys(author_ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """The least record key, as text, of what we hold of each author and collection of items.

    Nothing is there of what we hold nothing of.
    """
    wanted = sorted(set(author_ids))
    collections = {number: name for name, number in COLLECTIONS.items() if name != FOLLOW}
    held = records.least_rkeys(wanted)
    odd = f"SELECT i.author_id, i.rkey, i.flags FROM feed_items i WHERE {_IS_ODD} AND i.author_id"
    for author_id, rkey, flags in rows_in(odd, wanted):
        held.append((author_id, int(records.is_repost(flags)), rkey))
    texts = rkeys.decode_rkeys(rkey for *_, rkey in held)
    keys: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for author_id, number, rkey in held:
        name, text = collections[number], texts[rkey]
        keys[author_id][name] = min(text, keys[author_id].get(name, text))
    return keys


def _vanished(pages: Iterable[tuple[int, Page]]) -> list[Key]:
    """Our records in the ranges of pages that these do not list."""
    of_key = {(author_id, COLLECTIONS[page.collection]): page for author_id, page in pages}
    present = _present(of_key)
    texts = rkeys.decode_rkeys(rkey for _, rkey, _ in present)
    return [key for key in present if _is_gone(texts[key[1]], of_key[key[0], key[2]])]


def _is_gone(rkey: str, page: Page) -> bool:
    return (
        rkey not in page.listed
        and (page.upper is None or rkey < page.upper)
        and (page.lower is None or rkey >= page.lower)
    )


def _present(pages: Mapping[tuple[int, int], Page]) -> list[Key]:
    """What we hold in the ranges of these pages, and perhaps beside them."""
    follows, others = [], []
    for (author_id, number), page in pages.items():
        for low, high in _ranges(page):
            if number == COLLECTIONS[FOLLOW]:
                follows.append((author_id, low, high))
            else:
                others.append((author_id, number, low, high))
    return [
        *rows_between(
            f"t.viewer_id, t.rkey, {COLLECTIONS[FOLLOW]}", "follows", ("viewer_id", "rkey"), follows
        ),
        *records.in_ranges(others),
    ]


def _ranges(page: Page) -> Iterator[tuple[int, int]]:
    """The numbers that the page's keys can have; odd keys are negative, and few."""
    yield -(2**31), -1
    lower = tid_to_int(page.lower) if page.lower is not None and is_tid(page.lower) else 0
    upper = tid_to_int(page.upper) if page.upper is not None and is_tid(page.upper) else _MAX_TID
    yield lower, upper


def _drop(gone: Sequence[Key]) -> None:
    number = COLLECTIONS[FOLLOW]
    drop_follows([key for key in gone if key[2] == number])
    items.drop_items([key for key in gone if key[2] != number])


def _save_follows(follows: Mapping[Key, SaveFollow], group: Group) -> None:
    of_viewer: defaultdict[int, dict[Key, SaveFollow]] = defaultdict(dict)
    for key, follow in follows.items():
        of_viewer[key[0]][key] = follow
    for viewer_id, theirs in of_viewer.items():
        save_follows(theirs, group.names, group.now_us, priority_of_more(viewer_id))
