"""What each of our feeds keeps of the official timeline: a second opinion, from hydrated views.

Views say all but one thing: how much somebody wrote, of which the timeline shows a part. That, and
the reposts that the official timeline has lost, the world knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.devnet.reading import Seen
from tests.devnet.reply_rule import shows_in_following
from tests.devnet.world import Person, Repost, World

QUIET_ITEMS = 30
QUOTES = ("app.bsky.embed.record", "app.bsky.embed.recordWithMedia")
MEDIA = ("app.bsky.embed.images", "app.bsky.embed.gallery", "app.bsky.embed.video")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which items of the timeline a feed shows, and which of the reposts that are lost there."""

    keeps: Callable[[Seen], bool]
    keeps_lost: Callable[[Repost], bool]


def rules(world: World, viewer: Person) -> dict[str, Rule]:
    """By record key, for this viewer, in the world as it is now."""
    followed = world.followed(viewer)
    quiet = {p.did for p in world.people if p.did in followed and _written(world, p) <= QUIET_ITEMS}
    quiet.discard(viewer.did)
    mutual = {p.did for p in world.people if p is viewer or viewer.did in world.followed(p)}
    close = followed | {viewer.did}

    def following(also: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
        return lambda item: shows_in_following(item.view, viewer.did) and also(item)

    def is_close_quote(repost: Repost) -> bool:
        return _embed(repost.subject.record) in QUOTES and repost.subject.author.did in close

    return {
        "everything": Rule(lambda _item: True, lambda _repost: True),
        "following": Rule(following(lambda _item: True), lambda _repost: True),
        "posts-only": Rule(is_plain_post, lambda _repost: False),
        "no-reposts": Rule(following(lambda item: item.repost is None), lambda _repost: False),
        "no-quotes": Rule(
            following(lambda item: not _is_quote(item, viewer)),
            lambda repost: not is_close_quote(repost),
        ),
        "media": Rule(
            following(lambda item: item.repost is None and _has_media(item)), lambda _repost: False
        ),
        "mutuals": Rule(
            following(lambda item: _is_mutual(item.writer, viewer)),
            lambda repost: repost.author.did in mutual,
        ),
        "quiet": Rule(
            following(lambda item: item.writer["did"] in quiet),
            lambda repost: repost.author.did in quiet,
        ),
    }


def is_plain_post(item: Seen) -> bool:
    return item.repost is None and item.view["post"]["record"].get("reply") is None


def _is_mutual(writer: dict[str, Any], viewer: Person) -> bool:
    return writer["did"] == viewer.did or "followedBy" in writer.get("viewer", {})


def _is_quote(item: Seen, viewer: Person) -> bool:
    """A quote post; of reposts, only of what the viewer or somebody followed wrote."""
    if _embed(item.view["post"]["record"]) not in QUOTES:
        return False
    author = item.view["post"]["author"]
    is_close = author["did"] == viewer.did or "following" in author.get("viewer", {})
    return item.repost is None or is_close


def _has_media(item: Seen) -> bool:
    embed = item.view["post"]["record"].get("embed", {})
    return embed.get("$type") in MEDIA or embed.get("media", {}).get("$type") in MEDIA


def _embed(record: dict[str, Any]) -> str | None:
    kind: str | None = record.get("embed", {}).get("$type")
    return kind


def _written(world: World, person: Person) -> int:
    """Posts and reposts of somebody that there are; all of this world are younger than a month."""
    posts = sum(1 for post in world.posts if post.alive and post.author is person)
    return posts + sum(1 for one in world.reposts if one.alive and one.author is person)
