"""Random worlds for the timeline: the same deeds done in the database and in the model."""

import random
from collections.abc import Iterable

from server.core.feed import TimelineFilter, TimelineItem
from server.core.syntax import POST, REPOST
from server.storage import authors, outside_posts, pages, repos
from server.storage.changes import Batch
from server.storage.database import rows
from server.storage.outside_posts import MISSING, THERE, UNKNOWN
from server.storage.rkeys import decode_rkeys
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    job_of,
    new_epoch,
    number_of,
    post,
    repost,
    tid,
    track,
    unfollow,
    wipe,
)
from tests.expected import Item, Person, Ref, World, expected_items

VIEWER = "viewer"
TRACKED = ("viewer", "ann", "ben", "cat", "dan")
STRANGERS = ("sam", "tim")
# Between the keys of the items, so that an author may be complete for half of them.
HALFWAY = tid(10)


class TimelineWorld:
    """`deed` does one thing in both worlds; `feed` is what the model expects now."""

    def __init__(self, seed: int) -> None:
        wipe()
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        self.world = World(people={name: Person() for name in TRACKED})
        self.stream = Stream(new_epoch())
        track(VIEWER, wants=repos.ITEMS | repos.FOLLOWS)
        track(*TRACKED[1:])
        for name in self.rng.sample(TRACKED, 4):
            self._complete(name)
        for _ in range(self.rng.randint(2, 5)):
            self.follow()
        for _ in range(self.rng.randint(0, 50)):
            self.write()
        self._look_up()

    def deed(self) -> None:
        """Something happens."""
        doing = (self.write, self.delete, self.follow, self.unfollow, self.change_status)
        self.rng.choices(doing, (8, 3, 1, 1, 1))[0]()

    def write(self, ms: int | None = None) -> None:
        """Somebody posts, replies or reposts; moments and ties are few, so that many are equal."""
        rng, author = self.rng, self.rng.choice(TRACKED)
        rkey = tid(rng.randrange(20)) if rng.random() < 0.9 else rng.choice(("self", "~odd", "0"))
        item = Item(author, rkey, NOW_MS + rng.randrange(6) if ms is None else ms, rng.randrange(2))
        kind = rng.random()
        if kind < 0.2:
            item.subject = self._target()
        elif kind < 0.7:
            item.is_reply = True
            item.parent = self._target() if rng.random() < 0.95 else None
            item.root = self._target() if rng.random() < 0.5 else item.parent
        equals = [i for i in self.world.items.values() if (i.ms, i.tie) == (item.ms, item.tie)]
        # Of more than eight equals the last ones drift, which is tested where it happens.
        if item.name not in self.world.items and len(equals) < 8:
            self._save(item)

    def _save(self, item: Item) -> None:
        if item.subject is not None:
            change = repost(item.rkey, item.subject, item.ms, tie=item.tie)
        else:
            change = post(item.rkey, item.ms, tie=item.tie, parent=item.parent, root=item.root)
            if item.is_reply and item.parent is None and item.root is None:
                return
        self.stream.say(item.author, change)
        self.world.put(item)

    def delete(self) -> None:
        if not self.world.items:
            return
        author, rkey, is_repost = self.rng.choice(list(self.world.items))
        self.stream.say(author, drop(rkey, REPOST if is_repost else POST))
        del self.world.items[author, rkey, is_repost]

    def follow(self) -> None:
        rkey, subject = tid(self.rng.randrange(8)), self.rng.choice(TRACKED)
        self.stream.say(VIEWER, follow(rkey, subject))
        self.world.follows[VIEWER, rkey] = subject

    def unfollow(self) -> None:
        if self.world.follows:
            who, rkey = self.rng.choice(list(self.world.follows))
            self.stream.say(who, unfollow(rkey))
            del self.world.follows[who, rkey]

    def change_status(self) -> None:
        name = self.rng.choice(TRACKED)
        person = self.world.people[name]
        person.is_active = not person.is_active
        status = None if person.is_active else "deactivated"
        self.stream.save(Batch(statuses={did(name): (person.is_active, status)}))
        # Who comes back is fetched anew.
        if person.is_active:
            person.complete_from = None

    def feed(self, shown: TimelineFilter) -> list[TimelineItem]:
        """What a reader should find now, in order; the places are taken from the database."""
        places = _places()
        items = expected_items(self.world, VIEWER, shown)
        for item in items:
            assert places[item.name] >> 3 == item.ms << 18 | item.tie
        return sorted((_shown(item, places[item.name]) for item in items), key=lambda x: -x.key)

    def _complete(self, name: str) -> None:
        horizon = self.rng.choice((None, HALFWAY))
        job = job_of(name, self.stream.epoch)
        assert job is not None
        pages.store_snapshot(job, 0, self.stream.epoch)
        number = 0 if horizon is None else authors_tid(horizon)
        pages.finish(job, number, self.stream.epoch, NOW_US)
        self.world.people[name].complete_from = horizon or ""

    def _look_up(self) -> None:
        for wanted in outside_posts.due(NOW_US, 1000):
            state = self.rng.choice((THERE, MISSING, UNKNOWN))
            name = next(n for n in TRACKED + STRANGERS if did(n) == wanted.did)
            ref: Ref = (name, decode_rkeys([wanted.rkey])[wanted.rkey])
            parent = self.rng.choice(TRACKED + STRANGERS) if self.rng.random() < 0.7 else None
            if state == MISSING:
                self.world.missing.add(ref)
            elif state == THERE:
                self.world.outside[ref] = parent
            is_told = state == THERE and parent is not None
            outside_posts.settle(wanted, state, number_of(parent) if is_told else None)

    def _target(self) -> Ref:
        known = [name[:2] for name in self.world.items if not name[2]]
        if known and self.rng.random() < 0.6:
            return self.rng.choice(known)
        return self.rng.choice(TRACKED + STRANGERS), tid(self.rng.randrange(20))


def authors_tid(text: str) -> int:
    """The number of a TID, the slow way."""
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    return sum(digits.index(digit) << 5 * place for place, digit in enumerate(reversed(text)))


def joined(found: Iterable[list[TimelineItem]]) -> list[TimelineItem]:
    """Pages as one list."""
    return [item for page in found for item in page]


def _places() -> dict[tuple[str, str, bool], int]:
    names = {authors.author_id(did(name)): name for name in TRACKED}
    found = rows("SELECT author_id, rkey, collection, id FROM feed_items")
    texts = decode_rkeys({row[1] for row in found})
    return {(names[row[0]], texts[row[1]], row[2] == 1): row[3] for row in found}


def _shown(item: Item, key: int) -> TimelineItem:
    if item.subject is None:
        return TimelineItem(key, f"at://{did(item.author)}/{POST}/{item.rkey}", None)
    repost_uri = f"at://{did(item.author)}/{REPOST}/{item.rkey}"
    return TimelineItem(key, f"at://{did(item.subject[0])}/{POST}/{item.subject[1]}", repost_uri)
