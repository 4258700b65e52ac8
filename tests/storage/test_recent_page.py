"""Pages out of memory: what the database would have given, whatever happens meanwhile."""

import random
from collections import Counter
from dataclasses import fields, replace
from functools import partial

import pytest

from feeds import FEEDS
from server.core.feed import TimelineFilter
from server.core.threads import Thread
from server.storage import recent_memory, viewers
from server.storage.database import write_transaction
from server.storage.recent_items import RecentItems
from server.storage.recent_memory import Memory
from server.storage.recent_page import recent_page, suits
from server.storage.timeline import timeline_page
from server.storage.touched import touch_everybody
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    new_epoch,
    number_of,
    post,
    tid,
    track,
    unfollow,
)
from tests.storage.test_timeline import BY_RKEY, LIMITS, SEEDS, from_the_database, read
from tests.storage.timeline_world import VIEWER, TimelineWorld, joined

EVERYTHING = next(feed.filter for feed in FEEDS if feed.rkey == "everything")
SUITED = [feed for feed in FEEDS if suits(feed.filter) and not feed.oldest_first]


@pytest.fixture
def seeds(request):
    return SEEDS[request.node.callspec.params["database_url"]]


class Reader:
    """Reads pages out of memory, and from the database where memory cannot tell."""

    def __init__(self, most_items=50_000):
        self.out_of_memory = 0
        self.recent = RecentItems(most_items, self.count)

    def count(self):
        self.out_of_memory += 1

    def __call__(self, world, feed, beyond, limit):
        found = None
        if beyond is None:
            found = recent_page(self.recent, number_of(VIEWER), feed.filter, limit)
        return from_the_database(world, feed, beyond, limit) if found is None else found


def test_pages_joined_are_the_feed_that_the_model_expects(db, seeds):
    for seed in seeds:
        world, reader = TimelineWorld(seed), Reader()
        for feed in SUITED:
            expected = world.feed(feed)
            for limit in (*LIMITS, world.rng.randint(3, 60)):
                found = joined(read(world, feed, limit, page=reader))
                assert found == expected, f"seed {seed}, {feed.rkey}, limit {limit}"
        assert reader.out_of_memory > 0


@pytest.mark.parametrize("most_items", [20, 50_000])
def test_what_happens_is_on_the_next_page(db, seeds, most_items):
    out_of_memory = 0
    for seed in seeds:
        world, reader = TimelineWorld(seed), Reader(most_items)
        for _ in range(30):
            feed, limit = world.rng.choice(SUITED), world.rng.choice((1, 2, 5, 30))
            read(world, feed, limit, lambda world=world: world.deed(), page=reader)
            world.deed()
        out_of_memory += reader.out_of_memory
    assert out_of_memory > len(seeds)


def test_whoever_writes_meanwhile_what_was_committed_is_on_the_next_page(db, together):
    names = ("ann", "ben", "cat")
    viewer, epoch, recent = viewers.welcome(did(VIEWER), NOW_US), new_epoch(), RecentItems(50_000)
    track(*names, "dan")
    Stream(epoch).say(VIEWER, *(follow(tid(n), name) for n, name in enumerate(names)))
    Stream(epoch).say("dan", post(tid(0)))
    out_of_memory = Counter()

    def shown_of(name):
        page = recent_page(recent, viewer, EVERYTHING, 100)
        out_of_memory[page is not None] += 1
        page = page or timeline_page(viewer, EVERYTHING, None, 100, NOW_US)
        return {item.post_uri[-13:] for item in page.items if did(name) in item.post_uri}

    def write(name):
        rng, stream, there = random.Random(name), Stream(epoch, name), set()  # noqa: S311
        for number in range(40):
            rkey = tid(number)
            if len(there) > 20 or (there and rng.random() < 0.4):
                rkey = rng.choice(sorted(there))
                stream.say(name, drop(rkey))
            else:
                stream.say(name, post(rkey, NOW_MS + number, tie=number_of(name)))
            there ^= {rkey}
            assert shown_of(name) == there

    def follow_and_unfollow():
        stream = Stream(epoch, "viewer's")
        stream.revs[VIEWER] = 1
        for number in range(20):
            stream.say(VIEWER, follow(tid(100 + number), "dan"))
            assert shown_of("dan") == {tid(0)}
            stream.say(VIEWER, unfollow(tid(100 + number)))
            assert shown_of("dan") == set()

    together(*(partial(write, name) for name in names), follow_and_unfollow)
    assert out_of_memory[True] > out_of_memory[False]


def test_memory_that_is_dropped_while_a_page_is_read_costs_nothing(db, monkeypatch):
    world, recent = TimelineWorld(1), RecentItems(50_000)
    expected = world.feed(BY_RKEY["following"])[:30]
    for name in ("read_newest", "read_items", "read_threads"):
        read_it, dropped = getattr(recent, name), []

        def read_after_a_drop(*given, read_it=read_it, dropped=dropped):
            if not dropped:
                dropped.append(True)
                with write_transaction():
                    touch_everybody()
                recent.look()
            read_it(*given)

        recent.memory = Memory()
        if name == "read_threads":
            # Items that were read for a feed which does not ask for threads.
            recent_page(recent, number_of(VIEWER), EVERYTHING, 200)
        monkeypatch.setattr(recent, name, read_after_a_drop)
        page = recent_page(recent, number_of(VIEWER), BY_RKEY["following"].filter, 30)
        assert page.items == expected
        assert dropped, name


def test_of_a_loud_account_not_all_is_read_again_that_was_here(db):
    epoch, recent = new_epoch(), RecentItems(50_000)
    viewers.welcome(did(VIEWER), NOW_US)
    track("ann")
    stream = Stream(epoch)
    stream.say(VIEWER, follow(tid(1), "ann"))
    stream.say("ann", *(post(tid(n), NOW_MS - 1000 * n) for n in range(200)))
    recent_page(recent, number_of(VIEWER), EVERYTHING, 150)
    (held,) = recent.memory.items.values()
    assert len(held.items) > 150
    stream.say("ann", drop(tid(0)))
    page = recent_page(recent, number_of(VIEWER), EVERYTHING, 2)
    assert [item.post_uri[-13:] for item in page.items] == [tid(1), tid(2)]
    (held,) = recent.memory.items.values()
    assert len(held.items) <= recent_memory.MOST_AGAIN


def test_what_is_named_of_threads_that_were_forgotten_is_bounded():
    memory, most = Memory(), 20
    silent = range(1, 3)
    for number in range(10_000):
        author = 10 + number % 5
        memory.make_room_for_threads(most)
        memory.keep_thread(Thread(author, number, number, None, None), (), (author, *silent))
        # Whoever is answered writes again; what hangs on those who do not is never touched.
        memory.drop([author], 1)
        named = sum(len(threads) for threads in memory.threads_of.values())
        assert named <= memory.threads_named <= 3 * (most + 1)
    assert memory.threads == {}


def test_a_feed_with_a_word_that_memory_does_not_know_is_searched():
    known = TimelineFilter(reposts=False, replies="none")
    assert suits(known)
    changed = {"authors": "mutual", "replies": "some", "quotes": False, "media_only": True}
    assert {field.name for field in fields(TimelineFilter)} == {*changed, "reposts"}
    for name, word in changed.items():
        assert not suits(replace(known, **{name: word}))
