"""What an app reports of the items that it showed (lexicon app.bsky.feed.sendInteractions). Pure.

An app hands back two marks of our pages: `feedContext`, the item's sort key, and `reqId`, which
names the feed. Neither is signed: whoever makes them up moves nothing but their own place. So all
that counts is that the feed asks for reports and that the key is of a moment that has been. The
`item` does not: apps report the posts above a reply with the marks of the reply. Whatever is not of
this form is passed over, so that one wrong entry costs nothing.

The official app joins the marks with `|` before it sends them: they must not contain one.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from server.core.projection import KEY_TIE_BITS

SEEN = "app.bsky.feed.defs#interactionSeen"

_KEY = re.compile(r"[0-9]{1,19}")


def make_req_id(feed: str, now_us: int) -> str:
    """The mark of a page: the feed's record key, and when it was asked for."""
    return f"{feed}.{now_us}"


def furthest_seen(
    interactions: Sequence[object], feeds: Collection[str], now_us: int
) -> dict[str, int]:
    """The sort key of the furthest item seen of each of these feeds that is spoken of."""
    furthest: dict[str, int] = {}
    for interaction in interactions:
        if not isinstance(interaction, Mapping) or interaction.get("event") != SEEN:
            continue
        feed, _, _ = str(interaction.get("reqId")).rpartition(".")
        key = _key(interaction.get("feedContext"))
        if feed in feeds and key is not None and has_been(key, now_us):
            furthest[feed] = max(key, furthest.get(feed, 0))
    return furthest


def has_been(key: int, now_us: int) -> bool:
    """Whether an item with this sort key can have been shown: none stands in the future."""
    return key >> KEY_TIE_BITS <= now_us // 1000


def _key(context: object) -> int | None:
    if not isinstance(context, str) or _KEY.fullmatch(context) is None:
        return None
    return int(context)
