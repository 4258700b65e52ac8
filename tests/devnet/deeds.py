"""Single writes of the crowd: what goes to the PDS, and what the world learns from its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.devnet.client import Ref, change, creation, follow_record, removal, repost_record
from tests.devnet.world import Follow, Person, Post, Repost, World

Thing = TypeVar("Thing", Post, Repost, Follow)


@dataclass(frozen=True, slots=True)
class Deed:
    """A write that is decided but not yet done; `learn` tells the world how it came out."""

    write: dict[str, Any]
    learn: Callable[[Ref | None], None]


def writing(world: World, post: Post) -> Deed:
    return _creating(post, world.posts.append, post.record)


def reposting(world: World, person: Person, post: Post, created_at: str | None = None) -> Deed:
    record = repost_record(post.ref, created_at)
    return _creating(Repost(person, post), world.note_repost, record)


def following(world: World, person: Person, other: Person) -> Deed:
    return _creating(Follow(person, other), world.follows.append, follow_record(other.did))


def editing(world: World, post: Post, text: str) -> Deed:
    """A new text; the date and all else stay."""
    record = {**post.record, "text": text}

    def learn(ref: Ref | None) -> None:
        assert ref is not None
        world.note_edit(post, ref, record)

    return Deed(change(post.ref.rkey, record), learn)


def removing(thing: Post | Repost | Follow) -> Deed:
    def learn(_ref: Ref | None) -> None:
        thing.alive = False

    return Deed(removal(thing.ref), learn)


def _creating(thing: Thing, note: Callable[[Thing], None], record: dict[str, Any]) -> Deed:
    def learn(ref: Ref | None) -> None:
        assert ref is not None
        thing.ref = ref
        note(thing)

    return Deed(creation(record), learn)
