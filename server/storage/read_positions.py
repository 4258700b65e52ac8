"""How far a viewer has read in a feed that is read from the bottom: one row a viewer and feed."""

from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, value


def position(viewer_id: int, feed: str) -> int | None:
    """The sort key of the last item that the viewer has seen; None if nobody ever said."""
    found = value(
        "SELECT sort_key FROM read_positions WHERE viewer_id = ? AND feed = ?", (viewer_id, feed)
    )
    return None if found is None else int(found)


def advance(viewer_id: int, feed: str, sort_key: int, now_us: int) -> None:
    """The viewer has read up to here. What was read before stays read."""
    execute(
        "INSERT INTO read_positions (viewer_id, feed, sort_key, written_us) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (viewer_id, feed) DO UPDATE SET sort_key = excluded.sort_key,"
        " written_us = excluded.written_us WHERE read_positions.sort_key < excluded.sort_key",
        (viewer_id, feed, sort_key, now_us),
    )


@retry_conflicts
def expire(before_us: int) -> int:
    """Forget positions that have not moved since: everything there was then is gone."""
    return execute("DELETE FROM read_positions WHERE written_us < ?", (before_us,))
