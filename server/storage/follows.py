"""Who follows whom: one row a follow record of a viewer, whose subject we then track."""

from collections.abc import Iterable, Mapping

from server.core.projection import SaveFollow
from server.storage import repos
from server.storage.database import execute_each, insert_rows
from server.storage.items import Key, Names


def save_follows(follows: Mapping[Key, SaveFollow], names: Names, now_us: int) -> None:
    """Save follow records of viewers and track whom they follow, in the caller's transaction."""
    if not follows:
        return
    saved = [(key[0], key[1], names.authors[follow.subject]) for key, follow in follows.items()]
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)",
        saved,
        # An edited follow record names somebody else.
        "ON CONFLICT (viewer_id, rkey) DO UPDATE SET subject_id = excluded.subject_id",
    )
    repos.track((subject for _, _, subject in saved), repos.ITEMS, now_us)


def drop_follows(keys: Iterable[Key]) -> int:
    """Delete follow records by their keys; how many were there."""
    return execute_each(
        "DELETE FROM follows WHERE viewer_id = ? AND rkey = ?", [key[:2] for key in keys]
    )
