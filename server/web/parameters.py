"""Parameters of a query, as strictly as the reference server reads them.

An empty value is as good as none. Anything given twice, or not exactly of its form, is refused;
unknown parameters are passed over. (Flask's own `type=int` takes `1_0`, `+5` and Arabic digits.)
"""

import re
from dataclasses import dataclass

from werkzeug.datastructures import MultiDict

from server.core.errors import BadRequest, UnknownFeed
from server.core.feed import Feed, FeedCursor

DEFAULT_LIMIT, MAX_LIMIT = 50, 100

_LIMIT = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SkeletonParameters:
    """What getFeedSkeleton was asked for; without a cursor, the first page."""

    feed: Feed
    limit: int
    cursor: FeedCursor | None

    @property
    def is_first_page(self) -> bool:
        """Whether somebody opens the feed; a `limit` of 1 only asks whether there is news."""
        return self.cursor is None and self.limit > 1


def parse_skeleton(
    arguments: MultiDict[str, str], feeds: tuple[Feed, ...], publisher_did: str
) -> SkeletonParameters:
    """Raises BadRequest, UnknownFeed or MalformedCursor."""
    uri = _single(arguments, "feed")
    if uri is None:
        raise BadRequest("feed is required: the at:// URI of one of our feeds")
    feed = feed_of(uri, feeds, publisher_did)
    text = _single(arguments, "cursor")
    cursor = None if text is None else FeedCursor.decode(text)
    return SkeletonParameters(feed, _limit(_single(arguments, "limit")), cursor)


def feed_of(uri: object, feeds: tuple[Feed, ...], publisher_did: str) -> Feed:
    """The feed with exactly this URI. Raises UnknownFeed."""
    for feed in feeds:
        if feed.uri(publisher_did) == uri:
            return feed
    raise UnknownFeed("feed is not one of ours: describeFeedGenerator lists them")


def _single(arguments: MultiDict[str, str], name: str) -> str | None:
    values = arguments.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once")
    return values[0] if values and values[0] else None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if _LIMIT.fullmatch(text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)
