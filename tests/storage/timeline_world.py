"""Random worlds for the timeline: the same deeds done in the database and in the model."""

import random
from collections.abc import Iterable

from server.core.feed import QUIET_DAYS, QUIET_ITEMS, Feed, TimelineItem
from server.core.syntax import POST, REPOST, tid_to_int
from server.storage import authors, follow_backs, outside_posts, viewers
from server.storage.batch import Batch
from server.storage.database import rows
from server.storage.outside_posts import MISSING, THERE, UNKNOWN
from server.storage.records import is_repost
from server.storage.rkeys import decode_rkeys
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    finish,
    follow,
    job_of,
    new_epoch,
    number_of,
    post,
    repost,
    store_snapshot,
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
        # What is older than this by a millisecond or two does not count for quiet authors.
        self.world.now_ms = NOW_MS + QUIET_DAYS * 86_400_000 + self.rng.randrange(4)
        self.stream = Stream(new_epoch())
        viewers.welcome(did(VIEWER), NOW_US)
        track(*TRACKED[1:])
        for name in self.rng.sample(TRACKED, 4):
            self._complete(name)
        for _ in range(self.rng.randint(2, 5)):
            self.follow()
        for _ in range(self.rng.randint(0, 3)):
            self.follow_back()
        for _ in range(self.rng.randint(0, 50)):
            self.write()
        if self.rng.random() < 0.5:
            self.chatter()
        self._look_up()

    def deed(self) -> None:
        """Something happens."""
        doing = {
            self.write: 8,
            self.delete: 3,
            self.edit: 2,
            self.follow: 1,
            self.unfollow: 1,
            self.follow_back: 1,
            self.stop_following_back: 1,
            self.change_status: 1,
        }
        self.rng.choices(list(doing), list(doing.values()))[0]()

    def write(self, ms: int | None = None) -> None:
        """Somebody posts, replies or reposts; moments and ties are few, so that many are equal."""
        rng, author = self.rng, self.rng.choice(TRACKED)
        rkey = tid(rng.randrange(20)) if rng.random() < 0.9 else rng.choice(("self", "~odd", "0"))
        item = Item(author, rkey, NOW_MS + rng.randrange(6) if ms is None else ms, rng.randrange(2))
        kind = rng.random()
        if kind < 0.2:
            item.subject = self._target()
        else:
            item.is_media, item.is_quote = rng.random() < 0.3, rng.random() < 0.3
        if 0.2 <= kind < 0.7:
            item.is_reply = True
            item.parent = self._target() if rng.random() < 0.95 else None
            item.root = self._target() if rng.random() < 0.5 else item.parent
        equals = [i for i in self.world.items.values() if (i.ms, i.tie) == (item.ms, item.tie)]
        # Of more than eight equals the last ones drift, which is tested where it happens.
        if item.name not in self.world.items and len(equals) < 8:
            self._save(item)

    def chatter(self) -> None:
        """One author writes so much that they may be quiet no more."""
        author = self.rng.choice(TRACKED)
        posts = [
            Item(author, tid(100 + number), NOW_MS + number % 12, 2 + number % 7)
            for number in range(self.rng.randint(QUIET_ITEMS - 8, QUIET_ITEMS + 8))
        ]
        self.stream.say(author, *(post(item.rkey, item.ms, tie=item.tie) for item in posts))
        for item in posts:
            self.world.put(item)

    def _save(self, item: Item) -> None:
        if item.subject is not None:
            change = repost(item.rkey, item.subject, item.ms, tie=item.tie)
        else:
            change = post(
                item.rkey,
                item.ms,
                tie=item.tie,
                parent=item.parent,
                root=item.root,
                media=item.is_media,
                quote=item.is_quote,
            )
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

    def edit(self) -> None:
        """A post gets a picture or loses it, and stays where it is."""
        posts = [item for item in self.world.items.values() if item.subject is None]
        if posts:
            item = self.rng.choice(posts)
            item.is_media = not item.is_media
            self._save(item)

    def follow(self) -> None:
        rkey, subject = tid(self.rng.randrange(8)), self.rng.choice(TRACKED)
        self.stream.say(VIEWER, follow(rkey, subject))
        self.world.follows[VIEWER, rkey] = subject

    def unfollow(self) -> None:
        self._drop_follow([name for name in self.world.follows if name[0] == VIEWER])

    def follow_back(self) -> None:
        """Somebody follows the viewer, and the stream tells; or had before, and a look-up does."""
        name, rkey = self.rng.choice(TRACKED[1:]), tid(self.rng.randrange(8))
        if VIEWER in self.world.followed_by(name):
            return
        if self.rng.random() < 0.5:
            self.stream.say(name, follow(rkey, VIEWER))
        else:
            told: dict[int, int | None] = {number_of(name): tid_to_int(rkey)}
            # Later than all that the stream has said.
            follow_backs.save(number_of(VIEWER), told, NOW_US + 2 * follow_backs.LAG_US)
        self.world.follows[name, rkey] = VIEWER

    def stop_following_back(self) -> None:
        self._drop_follow([name for name in self.world.follows if name[0] != VIEWER])

    def _drop_follow(self, names: list[Ref]) -> None:
        if names:
            who, rkey = self.rng.choice(names)
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

    def feed(self, feed: Feed) -> list[TimelineItem]:
        """What a reader should find now, in order; the places are taken from the database."""
        places = _places()
        items = expected_items(self.world, VIEWER, feed.filter)
        for item in items:
            assert places[item.name] >> 3 == item.ms << 18 | item.tie
        found = (_shown(item, places[item.name]) for item in items)
        return sorted(found, key=lambda item: item.key, reverse=not feed.oldest_first)

    def _complete(self, name: str) -> None:
        horizon = self.rng.choice((None, HALFWAY))
        job = job_of(name, self.stream.epoch)
        assert job is not None
        store_snapshot(job, 0, self.stream.epoch)
        number = 0 if horizon is None else authors_tid(horizon)
        finish(job, number, self.stream.epoch)
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
    found = rows("SELECT author_id, rkey, flags, id FROM feed_items")
    texts = decode_rkeys({row[1] for row in found})
    return {(names[row[0]], texts[row[1]], is_repost(row[2])): row[3] for row in found}


def _shown(item: Item, key: int) -> TimelineItem:
    if item.subject is None:
        return TimelineItem(key, f"at://{did(item.author)}/{POST}/{item.rkey}", None)
    repost_uri = f"at://{did(item.author)}/{REPOST}/{item.rkey}"
    return TimelineItem(key, f"at://{did(item.subject[0])}/{POST}/{item.subject[1]}", repost_uri)
