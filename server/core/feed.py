"""What a feed is, its page cursor, and the skeleton that we answer with. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from server.core.errors import MalformedCursor

REPOST_REASON = "app.bsky.feed.defs#skeletonReasonRepost"

# Whoever wrote more than this many posts, replies and reposts in as many days is not quiet: one a
# day. Not more than storage/retention.py keeps of everybody, or the count would be wrong.
QUIET_ITEMS, QUIET_DAYS = 30, 30

_CURSOR = re.compile(r"1-([0-9]{1,19})(?:-([0-9]{1,19}))?")
_MAX_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimelineFilter:
    """Which items of the timeline a feed shows. The default shows all of them.

    The rules behind the words stand in `storage/filters.py`.
    `authors`: "followed", whom the viewer follows, and the viewer; "mutual", those of them who
    follow back, and the viewer; "quiet", those followed who write little.
    `replies`: "all"; "following", those the official app shows in Following; or "none".
    `quotes`: False leaves out quote posts, and reposts of those that somebody followed wrote.
    `media_only`: only posts with pictures or video.
    """

    authors: str = "followed"
    reposts: bool = True
    replies: str = "all"
    quotes: bool = True
    media_only: bool = False


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed as people see it; `rkey` is the last part of its URI and must never change.

    `display_name` has at most 24 graphemes, `description` at most 300 (the generator lexicon).
    `oldest_first` feeds begin where their viewer stopped, and so need to be told what was seen.
    `is_video`: apps may show it as a player. `labels` are what its author says of it ("nudity").
    """

    rkey: str
    display_name: str
    description: str
    filter: TimelineFilter = field(default_factory=TimelineFilter)
    oldest_first: bool = False
    is_video: bool = False
    labels: tuple[str, ...] = ()

    @property
    def accepts_interactions(self) -> bool:
        """Whether apps shall report what was seen: its record says so, its pages carry marks."""
        return self.oldest_first

    def uri(self, publisher_did: str) -> str:
        """Where the feed's generator record lives."""
        return f"at://{publisher_did}/app.bsky.feed.generator/{self.rkey}"


class TimelineItem(NamedTuple):
    """One row of a page: a post, or a repost (`repost_uri`) of a post. `key` is its place."""

    key: int
    post_uri: str
    repost_uri: str | None


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """Where a page ended: the sort key of its last item. The next page is strictly beyond it.

    `began`, in feeds read from the bottom: the key beyond which that page began.
    """

    key: int
    began: int | None = None

    def encode(self) -> str:
        """As the app gets it, to hand it back."""
        return f"1-{self.key}" if self.began is None else f"1-{self.key}-{self.began}"

    @classmethod
    def decode(cls, text: str) -> "FeedCursor":
        """What `encode` wrote. Raises MalformedCursor for what it cannot have written."""
        match = _CURSOR.fullmatch(text)
        keys = [] if match is None else [int(key) for key in match.groups() if key is not None]
        if not keys or max(keys) > _MAX_KEY or keys != sorted(keys, reverse=True):
            raise MalformedCursor("cursor is not one of ours: start again without it")
        return cls(*keys)


def to_skeleton(
    items: Sequence[TimelineItem], cursor: FeedCursor | None, req_id: str | None = None
) -> dict[str, object]:
    """The body of getFeedSkeleton. Absent keys are left out: a null loses the whole page.

    With a `req_id` it asks for interactions: see core/interactions.py.
    """
    feed: list[dict[str, object]] = []
    for item in items:
        entry: dict[str, object] = {"post": item.post_uri}
        if item.repost_uri is not None:
            entry["reason"] = {"$type": REPOST_REASON, "repost": item.repost_uri}
        if req_id is not None:
            entry["feedContext"] = str(item.key)
        feed.append(entry)
    skeleton: dict[str, object] = {"feed": feed}
    if req_id is not None:
        skeleton["reqId"] = req_id
    if cursor is not None:
        skeleton["cursor"] = cursor.encode()
    return skeleton
