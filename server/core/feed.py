"""What a feed is, its page cursor, and the skeleton that we answer with. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.core.errors import MalformedCursor

REPOST_REASON = "app.bsky.feed.defs#skeletonReasonRepost"

_CURSOR = re.compile(r"1-([0-9]{1,19})")
_MAX_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimelineFilter:
    """Which items of the timeline a feed shows. The default shows all of them.

    `replies`: "all"; "following", those the official app shows in Following (the rule stands in
    `storage/timeline.py`); or "none".
    """

    reposts: bool = True
    replies: str = "all"


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed as people see it; `rkey` is the last part of its URI and must never change.

    `display_name` has at most 24 graphemes, `description` at most 300 (the generator lexicon).
    """

    rkey: str
    display_name: str
    description: str
    filter: TimelineFilter = field(default_factory=TimelineFilter)

    def uri(self, publisher_did: str) -> str:
        """Where the feed's generator record lives."""
        return f"at://{publisher_did}/app.bsky.feed.generator/{self.rkey}"


@dataclass(frozen=True, slots=True)
class TimelineItem:
    """One row of a page: a post, or a repost (`repost_uri`) of a post. `key` is its place."""

    key: int
    post_uri: str
    repost_uri: str | None


def encode_cursor(key: int) -> str:
    """The cursor of a page whose last item has this sort key; the next page is strictly below."""
    return f"1-{key}"


def decode_cursor(text: str) -> int:
    """The sort key in a cursor. Raises MalformedCursor for what we cannot have written."""
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[1]) > _MAX_KEY:
        raise MalformedCursor("cursor is not one of ours: start again without it")
    return int(match[1])


def to_skeleton(items: Sequence[TimelineItem], has_more: bool) -> dict[str, object]:
    """The body of getFeedSkeleton. Absent keys are left out: a null loses the whole page."""
    feed: list[dict[str, object]] = []
    for item in items:
        entry: dict[str, object] = {"post": item.post_uri}
        if item.repost_uri is not None:
            entry["reason"] = {"$type": REPOST_REASON, "repost": item.repost_uri}
        feed.append(entry)
    skeleton: dict[str, object] = {"feed": feed}
    # A cursor on the last page would make the app ask for an empty one.
    if items and has_more:
        skeleton["cursor"] = encode_cursor(items[-1].key)
    return skeleton
