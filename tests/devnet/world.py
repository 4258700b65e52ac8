"""What the crowd has written so far: a model with no I/O, filled by `crowd`.

It knows the one thing that the official servers cannot be asked: which reposts their timeline has
lost. Everything else that a feed should show, the judge asks them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.devnet.client import Account, Ref

NO_REF = Ref("", "")


@dataclass(slots=True, eq=False)
class Person:
    """Somebody of the crowd, and whether the account is active, or deleted (`is_gone`) for good.

    A stranger opens none of our feeds, so the service follows his repo only while a viewer follows
    him. What he does in between must be such as can be known afterwards.
    """

    account: Account
    is_stranger: bool = False
    active: bool = True
    is_gone: bool = False

    @property
    def did(self) -> str:
        return self.account.did


@dataclass(slots=True, eq=False)
class Post:
    """A post as last written. `ref` is its newest version."""

    author: Person
    record: dict[str, Any]
    future: bool = False
    root: Post | None = None
    ref: Ref = NO_REF
    alive: bool = True


@dataclass(slots=True, eq=False)
class Repost:
    """`lost` if its subject was edited: the official timeline may drop it, getFeed hydrates it."""

    author: Person
    subject: Post
    ref: Ref = NO_REF
    alive: bool = True
    lost: bool = False


@dataclass(slots=True, eq=False)
class Follow:
    """One follow record; several may name one subject."""

    author: Person
    subject: Person
    ref: Ref = NO_REF
    alive: bool = True


@dataclass(slots=True)
class World:
    """All that was ever written, in order, and how often each kind of deed was done."""

    people: list[Person]
    posts: list[Post] = field(default_factory=list)
    reposts: list[Repost] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    _just_edited: set[int] = field(default_factory=set)

    def note_repost(self, repost: Repost) -> None:
        # The AppView works through repos side by side: it may meet an edit after a repost that was
        # made later, and drops that one as well.
        repost.lost = id(repost.subject) in self._just_edited
        self.reposts.append(repost)

    def note_settled(self) -> None:
        """The AppView has indexed all that is written."""
        self._just_edited.clear()

    def note_edit(self, post: Post, ref: Ref, record: dict[str, Any]) -> None:
        post.ref, post.record = ref, record
        self._just_edited.add(id(post))
        for repost in self.reposts:
            if repost.subject is post:
                repost.lost = True

    def forget_reposts(self, author: Person, subject: Post) -> None:
        for repost in self.reposts:
            if repost.author is author and repost.subject is subject:
                repost.alive = False

    def forget_follows(self, author: Person, subject: Person) -> None:
        for follow in self.follows:
            if follow.author is author and follow.subject is subject:
                follow.alive = False

    def followed(self, viewer: Person) -> set[str]:
        """The DIDs that this viewer follows."""
        mine = (follow for follow in self.follows if follow.alive and follow.author is viewer)
        return {follow.subject.did for follow in mine}

    def lost_reposts(self) -> set[str]:
        """URIs of all reposts that the official timeline may have lost."""
        return {repost.ref.uri for repost in self.reposts if repost.lost}

    def future_posts(self) -> set[str]:
        """URIs of all posts dated in the future."""
        return {post.ref.uri for post in self.posts if post.future}

    def lost_but_visible(self, viewer: Person) -> list[Repost]:
        """Those of them that must stand in this viewer's feeds all the same."""
        authors = self.followed(viewer) | {viewer.did}
        return [
            repost
            for repost in self.reposts
            if repost.lost
            and repost.alive
            and repost.author.active
            and repost.author.did in authors
            and repost.subject.alive
            and repost.subject.author.active
        ]
