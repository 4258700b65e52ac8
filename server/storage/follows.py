"""Who follows whom: one row a follow record of a viewer, whose subject we then track."""

from collections.abc import Iterable, Mapping

from server.core.projection import SaveFollow
from server.storage import follow_backs, repos
from server.storage.database import value
from server.storage.items import Key, Names
from server.storage.many_rows import delete_rows, insert_rows
from server.storage.touched import touch

# Follows of one viewer that are fetched before those of the next; of people, few have more.
MANY_FOLLOWS = 1_000


def save_follows(
    follows: Mapping[Key, SaveFollow],
    names: Names,
    now_us: int,
    priority: int = repos.NEWEST_PAGE,
) -> None:
    """Save follow records of viewers and track whom they follow, in the caller's transaction.

    `priority` is that of the backfill of those who are new to us.
    """
    if not follows:
        return
    saved = [(key[0], key[1], names.authors[follow.subject]) for key, follow in follows.items()]
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)",
        saved,
        # An edited follow record names somebody else.
        "ON CONFLICT (viewer_id, rkey) DO UPDATE SET subject_id = excluded.subject_id",
    )
    touch(viewer for viewer, _, _ in saved)
    repos.track((subject for _, _, subject in saved), repos.ITEMS, now_us, priority)
    follow_backs.follows_changed(((viewer, subject) for viewer, _, subject in saved), now_us)


def drop_follows(keys: Iterable[Key]) -> int:
    """Delete follow records by their keys, in the caller's transaction; how many were there."""
    dropped = [key[:2] for key in keys]
    touch(viewer for viewer, _ in dropped)
    return delete_rows("follows", ("viewer_id", "rkey"), dropped)


def priority_of_more(viewer_id: int) -> int:
    """How urgent those are whom the viewer follows beyond what we know already."""
    beyond = value(
        "SELECT 1 FROM follows WHERE viewer_id = ? LIMIT 1 OFFSET ?", (viewer_id, MANY_FOLLOWS)
    )
    return repos.NEWEST_PAGE if beyond is None else repos.NEWEST_OF_MANY
