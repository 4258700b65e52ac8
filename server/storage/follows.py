"""Who follows whom: one row a follow record of a viewer, whose subject we then track.

Bounds: MAX_FOLLOWS records of one viewer, whether a PDS lists them or the stream tells. Those that
are here stay; of others, as many are taken as there is room, in the order in which they are told (a
PDS lists the newest first). Whose follows are cut so, or have no end (pages.MAX_LISTED), is marked
until they are listed anew and fit: the mark ends the listing, is told by the ledger, and spares the
repo being compared.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from server.core.projection import SaveFollow
from server.storage import follow_backs, jobs, repos
from server.storage.database import execute, value
from server.storage.items import Names
from server.storage.many_rows import delete_rows, insert_rows, rows_by_key, rows_in
from server.storage.records import Key
from server.storage.touched import touch

log = logging.getLogger(__name__)

# Ten times what the most eager follow (20,000): more is a machine, perhaps one to fill
# our disk.
MAX_FOLLOWS = 200_000
# Follows of one viewer that are fetched before those of the next; of people, few have more. Of whom
# the stream tells: as many as wait at once.
MANY_FOLLOWS = 1_000


def save_follows(
    follows: Mapping[Key, SaveFollow],
    names: Names,
    now_us: int,
    priority: int = repos.NEWEST_PAGE,
) -> None:
    """Save follow records of viewers and track whom they follow, in the caller's transaction.

    `priority` is that of the backfill of those who are new to us, or wait with less for the first.
    """
    refused = _beyond_bound(follows)
    saved = [
        (key[0], key[1], names.authors[follow.subject])
        for key, follow in follows.items()
        if key not in refused
    ]
    if not saved:
        return
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)",
        saved,
        # An edited follow record names somebody else.
        "ON CONFLICT (viewer_id, rkey) DO UPDATE SET subject_id = excluded.subject_id",
    )
    touch(viewer for viewer, _, _ in saved)
    subjects = {subject for _, _, subject in saved}
    repos.track(subjects, repos.ITEMS, now_us, priority)
    jobs.hurry(subjects, priority)
    follow_backs.follows_changed(((viewer, subject) for viewer, _, subject in saved), now_us)


def save_told(follows: Mapping[Key, SaveFollow], names: Names, now_us: int) -> None:
    """The same of what the stream tells, however many one viewer follows in a short time."""
    coming = Counter(viewer for viewer, *_ in follows)
    crowds = {viewer for viewer, count in coming.items() if _is_crowd(viewer, count)}
    few = {key: follow for key, follow in follows.items() if key[0] not in crowds}
    many = {key: follow for key, follow in follows.items() if key[0] in crowds}
    save_follows(few, names, now_us)
    save_follows(many, names, now_us, repos.NEWEST_OF_MANY)


def are_cut(viewer_id: int) -> bool:
    """Whether the viewer follows more than is here."""
    sql = "SELECT 1 FROM repos WHERE author_id = ? AND wants >= ?"
    return value(sql, (viewer_id, repos.CUT)) is not None


def mark_cut(viewers: set[int]) -> None:
    """These viewers follow more than is taken, in the transaction that holds their repos."""
    mark = "UPDATE repos SET wants = wants + ? WHERE author_id = ? AND wants < ?"
    for viewer in sorted(viewers):
        if execute(mark, (repos.CUT, viewer, repos.CUT)):
            log.warning("follows cut viewer=%d: there are more than we take", viewer)


def drop_follows(keys: Iterable[Key]) -> int:
    """Delete follow records by their keys, in the caller's transaction; how many were there."""
    dropped, record = [key[:2] for key in keys], ("viewer_id", "rkey")
    touch(viewer for viewer, _ in dropped)
    subjects = {n for (n,) in rows_by_key("t.subject_id", "follows", record, dropped)}
    count = delete_rows("follows", record, dropped)
    jobs.take_time(subjects)
    return count


def priority_of_more(viewer_id: int) -> int:
    """How urgent those are whom the viewer follows beyond what we know already."""
    beyond = value(
        "SELECT 1 FROM follows WHERE viewer_id = ? LIMIT 1 OFFSET ?", (viewer_id, MANY_FOLLOWS)
    )
    return repos.NEWEST_PAGE if beyond is None else repos.NEWEST_OF_MANY


def _is_crowd(viewer_id: int, coming: int) -> bool:
    """Whether so many more would make a crowd of those whom the viewer waits for."""
    if priority_of_more(viewer_id) == repos.NEWEST_PAGE:
        return False
    waiting = value(
        "SELECT count(*) FROM (SELECT 1 FROM backfill_jobs j WHERE j.priority <= ? AND EXISTS"
        " (SELECT 1 FROM follows f WHERE f.viewer_id = ? AND f.subject_id = j.author_id)"
        " LIMIT ?) waiting",
        (repos.NEWEST_PAGE, viewer_id, MANY_FOLLOWS),
    )
    return coming + int(waiting) > MANY_FOLLOWS


def _beyond_bound(follows: Iterable[Key]) -> set[Key]:
    """Those for which there is no room; whose they are is marked."""
    told: dict[int, list[Key]] = defaultdict(list)
    for key in follows:
        told[key[0]].append(key)
    count = "SELECT viewer_id, count(*) FROM follows WHERE viewer_id"
    counts: dict[int, int] = dict(rows_in(count, told, "GROUP BY viewer_id"))
    refused: set[Key] = set()
    for viewer, keys in told.items():
        room = max(0, MAX_FOLLOWS - counts.get(viewer, 0))
        if len(keys) > room:
            record = ("viewer_id", "rkey")
            known = set(
                rows_by_key("t.viewer_id, t.rkey", "follows", record, [k[:2] for k in keys])
            )
            refused.update([key for key in keys if key[:2] not in known][room:])
    mark_cut({viewer for viewer, *_ in refused})
    return refused
