"""The official app's screen for a custom feed: which posts it draws of what a feed lists.

Written from what the app does, to check that our pages suit it. A reply is drawn below its root and
its parent. A post that is on the screen already is not drawn again: leading ones are left out, and
an item whose own post is there is left out whole. Reposts are drawn alone; one of a reply is not
remembered, so that the reply may still appear in its thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.devnet.reading import Seen
from tests.devnet.reply_rule import POST_VIEW


class Screen:
    """What is drawn, from the top down, in URIs of posts; pages are added as they come."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self._remembered: set[str] = set()
        self._items: set[tuple[str, str]] = set()

    def add(self, items: Iterable[Seen]) -> None:
        for item in items:
            if (item.post, item.sort_time) not in self._items:
                self._add(item)

    def _add(self, item: Seen) -> None:
        posts = [*_above(item), item.post]
        while posts and posts[0] in self._remembered:
            posts.pop(0)
        if item.post in self._remembered:
            return
        self._items.add((item.post, item.sort_time))
        self.drawn += posts
        is_reply = item.view["post"]["record"].get("reply") is not None
        if not (is_reply and item.repost):
            self._remembered |= set(posts)


def _above(item: Seen) -> list[str]:
    """Root and parent of a reply, as far as they can be shown."""
    reply: dict[str, Any] = item.view.get("reply") or {}
    if item.repost or reply.get("parent", {}).get("$type") != POST_VIEW:
        return []
    parent, root = reply["parent"]["uri"], reply["root"]
    if root.get("$type") != POST_VIEW or root["uri"] == parent:
        return [parent]
    return [root["uri"], parent]
