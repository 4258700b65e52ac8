"""Where a feed that is read from the bottom begins: where its viewer stopped.

Apps that report what was seen (sendInteractions) decide it. For the others, somebody who asks for a
page has at least read the one before the last: that counts as seen too. Whoever has no place yet,
or none any more, begins with what is FIRST_HOURS old. The first page begins with the last item
seen, so that one finds the place again; a poll for news (`limit=1`) with the first unseen one.
"""

from server.core.feed import Feed, FeedCursor
from server.core.interactions import has_been
from server.core.projection import sort_key
from server.storage import read_positions

FIRST_HOURS = 24
_HOUR_US = 3_600_000_000


def begin(viewer_id: int, feed: Feed, limit: int, now_us: int) -> int:
    """The sort key beyond which the first page begins."""
    seen = read_positions.position(viewer_id, feed.rkey)
    if seen is None:
        return sort_key((now_us - FIRST_HOURS * _HOUR_US) // 1000, 0)
    # Not below 0, which no cursor can say.
    return seen if limit == 1 else max(seen - 1, 0)


def turn_page(viewer_id: int, feed: Feed, cursor: FeedCursor, limit: int, now_us: int) -> None:
    """The viewer asks for the page after `cursor`: what was before that page has been read."""
    if cursor.began is None or limit == 1 or not has_been(cursor.began, now_us):
        return
    seen = read_positions.position(viewer_id, feed.rkey)
    # Most pages change nothing: then nothing is written.
    if seen is None or cursor.began > seen:
        read_positions.advance(viewer_id, feed.rkey, cursor.began, now_us)
