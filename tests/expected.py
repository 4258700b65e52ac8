"""What a feed should hold, worked out from a world in plain Python. Shares nothing with the SQL.

The rule for replies is the official app's for Following, in the words of its own code: orphans go;
a reply shows when everybody else in its context (parent, grandparent, root) is nobody at all, or at
least one of them is the viewer or followed by the viewer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from server.core.feed import QUIET_DAYS, QUIET_ITEMS, TimelineFilter
from server.core.syntax import is_tid

# A record by (name of its author, record key).
Ref = tuple[str, str]


@dataclass(slots=True)
class Item:
    """A post or repost. `parent` and `root` make it a reply, `subject` a repost."""

    author: str
    rkey: str
    ms: int
    tie: int = 0
    is_reply: bool = False
    parent: Ref | None = None
    root: Ref | None = None
    subject: Ref | None = None
    is_media: bool = False
    is_quote: bool = False

    @property
    def name(self) -> tuple[str, str, bool]:
        """What tells it from all others: author, key, and whether it is a repost."""
        return self.author, self.rkey, self.subject is not None


@dataclass(slots=True)
class Person:
    """An account. We have all its posts with keys above `complete_from`; None: we cannot tell."""

    is_tracked: bool = True
    is_active: bool = True
    complete_from: str | None = None


@dataclass(slots=True)
class World:
    """All there is, at `now_ms`; `follows` are also those of people who are no viewers.

    `outside` tells of posts that were looked up: None if there was none.
    """

    now_ms: int = 0

    people: dict[str, Person] = field(default_factory=dict)
    items: dict[tuple[str, str, bool], Item] = field(default_factory=dict)
    follows: dict[Ref, str] = field(default_factory=dict)
    outside: dict[Ref, str | None] = field(default_factory=dict)
    missing: set[Ref] = field(default_factory=set)

    def put(self, item: Item) -> None:
        """Add an item."""
        self.items[item.name] = item

    def followed_by(self, viewer: str) -> set[str]:
        """Whom a viewer follows, however often."""
        return {subject for (who, _), subject in self.follows.items() if who == viewer}


def expected_items(world: World, viewer: str, shown: TimelineFilter) -> list[Item]:
    """The items of a viewer's feed, in no order."""
    close = world.followed_by(viewer) | {viewer}
    authors = _authors(world, viewer, shown)
    return [
        item
        for item in world.items.values()
        if item.author in authors
        and world.people[item.author].is_active
        and _is_wanted(world, item, close, shown)
    ]


def _authors(world: World, viewer: str, shown: TimelineFilter) -> set[str]:
    followed = world.followed_by(viewer)
    if shown.authors == "mutual":
        return {name for name in followed if viewer in world.followed_by(name)} | {viewer}
    if shown.authors == "quiet":
        return {name for name in followed - {viewer} if _is_quiet(world, name)}
    return followed | {viewer}


def _is_quiet(world: World, name: str) -> bool:
    since_ms = world.now_ms - QUIET_DAYS * 86_400_000
    written = [item for item in world.items.values() if item.author == name]
    return len([item for item in written if item.ms >= since_ms]) <= QUIET_ITEMS


def _is_wanted(world: World, item: Item, close: set[str], shown: TimelineFilter) -> bool:
    if shown.media_only and not item.is_media:
        return False
    if not shown.quotes and _is_quote(world, item, close):
        return False
    if item.subject is not None:
        return shown.reposts
    if not item.is_reply or shown.replies == "all":
        return True
    return shown.replies == "following" and _is_followed_reply(world, item, close)


def _is_quote(world: World, item: Item, close: set[str]) -> bool:
    """A quote post, or a repost of one by somebody close that we have."""
    if item.subject is None:
        return item.is_quote
    reposted = world.items.get((*item.subject, False))
    return reposted is not None and reposted.is_quote and reposted.author in close


def _is_followed_reply(world: World, item: Item, close: set[str]) -> bool:
    if item.parent is None:
        return False
    context = [item.parent, item.root or item.parent]
    if any(_is_gone(world, ref) for ref in context):
        return False
    others = set(_others(world, item, context))
    return not others or bool(others & close)


def _others(world: World, item: Item, context: Iterable[Ref]) -> Iterator[str]:
    assert item.parent is not None
    people = [author for author, _ in context]
    parent = world.items.get((*item.parent, False))
    if parent is not None and parent.parent is not None:
        people.append(parent.parent[0])
    elif (looked_up := world.outside.get(item.parent)) is not None:
        people.append(looked_up)
    return (name for name in people if name != item.author and not _is_hidden(world, name))


def _is_hidden(world: World, name: str) -> bool:
    author = world.people.get(name)
    return author is not None and author.is_tracked and not author.is_active


def _is_gone(world: World, ref: Ref) -> bool:
    if _is_hidden(world, ref[0]):
        return True
    if (*ref, False) in world.items:
        return False
    if ref in world.missing:
        return True
    author = world.people.get(ref[0])
    if author is None or not author.is_tracked or author.complete_from is None:
        return False
    # Of keys that are no TIDs nobody can tell whether they are below a horizon.
    return author.complete_from == "" or (is_tid(ref[1]) and ref[1] > author.complete_from)
