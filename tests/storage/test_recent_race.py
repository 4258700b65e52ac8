"""Pages out of memory beside a writer: each is as the database was while the page was made.

Threads ask for pages again and again, and give the interpreter away very often. One writes, and
after each batch reads from the database what pages would show now.
"""

import random
import sys
import threading
import time
from typing import NamedTuple

import pytest

from server.storage import recent_items, recent_memory, recent_page, viewers
from server.storage.batch import Batch
from server.storage.database import database, release
from server.storage.recent_items import RecentItems
from server.storage.timeline import timeline_page
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    make_live,
    new_epoch,
    number_of,
    post,
    repost,
    tid,
    track,
    unfollow,
)
from tests.storage.test_timeline import BY_RKEY

pytestmark = pytest.mark.slow

FEEDS = ("everything", "following", "no-reposts", "posts-only")
AUTHORS = tuple(f"a{number}" for number in range(8))
VIEWERS = ("v1", "v2", "v3")
THREADS, SECONDS = 6, 10.0
# More than there are items of three viewers' pages.
ALL = 100


class Shown(NamedTuple):
    """A page, and the numbers of the batches between whose ends and beginnings it was made."""

    ended: int
    begun: int
    viewer: str
    feed: str
    limit: int
    page: object


class Race:
    """A writer, and what the pages of all are after each of its batches."""

    def __init__(self, seed):
        self.rng = random.Random(seed)  # noqa: S311  the same changes in every run
        self.stream = Stream(new_epoch())
        for name in VIEWERS:
            viewers.welcome(did(name), NOW_US)
        track(*AUTHORS)
        make_live(*VIEWERS, *AUTHORS[:6])
        self.numbers = {name: number_of(name) for name in VIEWERS}
        self.begun = self.ended = 0
        self.pages = []
        for _ in range(150):
            who, change = self.change()
            self.stream.say(who, change)
        self.note()

    def change(self):
        rng, key = self.rng, tid(self.rng.randrange(40))
        who = rng.choice(AUTHORS + VIEWERS)
        kind = rng.random()
        if kind < 0.45:
            parent = (rng.choice(AUTHORS), tid(rng.randrange(40))) if rng.random() < 0.5 else None
            created_ms = NOW_MS + rng.randrange(60)
            return who, post(key, created_ms, tie=rng.randrange(4), parent=parent)
        if kind < 0.6:
            subject = rng.choice(AUTHORS), tid(rng.randrange(40))
            return who, repost(tid(100 + rng.randrange(9)), subject, NOW_MS + rng.randrange(60))
        if kind < 0.85:
            return who, drop(key)
        key = tid(rng.randrange(12))
        viewer = rng.choice(VIEWERS)
        return viewer, follow(key, rng.choice(AUTHORS)) if kind < 0.95 else unfollow(key)

    def write(self):
        batch = Batch()
        for _ in range(self.rng.randrange(1, 4)):
            who, change = self.change()
            batch.add_commit(self.stream.next(who, change))
        if self.rng.random() < 0.06:
            batch.add_status(did(self.rng.choice(AUTHORS)), self.rng.random() < 0.5, None)
        self.begun += 1
        self.stream.save(batch)
        self.ended += 1
        self.note()

    def note(self):
        self.pages.append(
            {(name, feed): self.page(name, feed, ALL).items for name in VIEWERS for feed in FEEDS}
        )

    def page(self, name, feed, limit):
        return timeline_page(self.numbers[name], BY_RKEY[feed].filter, None, limit, NOW_US)

    def is_right(self, one):
        wholes = (
            self.pages[number][one.viewer, one.feed] for number in range(one.ended, one.begun + 1)
        )
        return any(
            (one.page.items, one.page.has_more) == (whole[: one.limit], len(whole) > one.limit)
            for whole in wholes
        )


def ask(race, recent, seed, stop, shown):
    rng = random.Random(seed)  # noqa: S311
    try:
        while not stop.is_set():
            asked = rng.choice(VIEWERS), rng.choice(FEEDS), rng.choice((1, 3, 8, 30))
            ended, (name, feed, limit) = race.ended, asked
            number, shows = race.numbers[name], BY_RKEY[feed].filter
            page = recent_page.recent_page(recent, number, shows, limit)
            if page is not None:
                shown.append(Shown(ended, race.begun, *asked, page))
            release()
    except BaseException as error:
        shown.append(error)
        raise
    finally:
        database.close()


@pytest.fixture
def hasty():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("seed", "room", "at_once"),
    [(0, 50_000, 2), (1, 60, 2), (6, 60, 50)],
    ids=["room", "little room", "many at once"],
)
def test_every_page_is_of_one_moment_while_it_was_made(db, hasty, monkeypatch, seed, room, at_once):
    for module in (recent_memory, recent_items):
        monkeypatch.setattr(module, "MOST_AGAIN", 3)
    monkeypatch.setattr(recent_page, "MOST_AT_ONCE", at_once)
    race, recent, stop, shown = Race(seed), RecentItems(room), threading.Event(), []
    threads = [
        threading.Thread(target=ask, args=(race, recent, number, stop, shown))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            race.write()
            time.sleep(race.rng.choice((0, 0, 0.002, 0.01)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [one for one in shown if not isinstance(one, Shown)] == []
    assert len(shown) > 1_000
    assert [one for one in shown if not race.is_right(one)] == []
