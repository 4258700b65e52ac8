"""Who is remembered where not all find room: those who are there already."""

from functools import partial

import pytest

from server.storage import recent_items, recent_memory, viewers
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    follow,
    new_epoch,
    number_of,
    post,
    tid,
    track,
)
from tests.storage.test_recent_page import EVERYTHING


@pytest.fixture
def crowd(db):
    """Who is there to be remembered: three viewers who follow three accounts each."""
    epoch = new_epoch()
    for number in range(3):
        viewer, followed = f"viewer{number}", [f"author{3 * number + n}" for n in range(3)]
        viewers.welcome(did(viewer), NOW_US)
        track(*followed)
        stream = Stream(epoch)
        stream.say(viewer, *(follow(tid(n), name) for n, name in enumerate(followed)))
        for name in followed:
            stream.say(name, post(tid(0)))
    return Crowd()


class Crowd:
    """Reads the viewers' pages; says whose came out of memory."""

    def __init__(self):
        self.recent = RecentItems(8)

    def read(self):
        remembered = []
        for number in range(3):
            page = recent_page(self.recent, number_of(f"viewer{number}"), EVERYTHING, 30)
            if page is not None:
                remembered.append(number)
                assert len(page.items) == 3
        return remembered


# Four accounts for each viewer, who follows three and sees their own.
@pytest.mark.parametrize("bound", ["ACCOUNTS_AN_ITEM", "FOLLOWS_AN_ITEM"])
def test_whoever_finds_no_room_sends_nobody_away_until_it_is_time(crowd, monkeypatch, bound):
    monkeypatch.setattr(recent_memory, bound, 1)
    assert [crowd.read() for _ in range(3)] == [[0, 1], [0, 1], [0, 1]]
    reads = []
    read_followed = crowd.recent.read_followed
    monkeypatch.setattr(
        crowd.recent, "read_followed", lambda viewer: (reads.append(viewer), read_followed(viewer))
    )
    assert crowd.read() == [0, 1]
    # Nor is it looked whom they follow.
    assert reads == []
    crowd.recent.memory.renewable_s = 0.0
    page = recent_page(crowd.recent, number_of("viewer2"), EVERYTHING, 30)
    assert page is not None
    # The first who comes has room again, and the last has none.
    assert crowd.read() == [0, 2]
    assert crowd.recent.memory.follows_held == 8


def test_whoever_is_forgotten_leaves_room(crowd, monkeypatch):
    monkeypatch.setattr(recent_memory, "FOLLOWS_AN_ITEM", 1)
    assert crowd.read() == [0, 1]
    crowd.recent.memory.drop_followed(number_of("viewer0"))
    assert recent_page(crowd.recent, number_of("viewer2"), EVERYTHING, 30) is not None
    assert crowd.read() == [1, 2]


def test_who_follows_too_many_takes_the_room_of_one(crowd, monkeypatch):
    monkeypatch.setattr(recent_items, "MOST_FOLLOWED", 2)
    assert crowd.read() == []
    memory = crowd.recent.memory
    assert (list(memory.followed.values()), memory.follows_held) == ([None] * 3, 3)
    memory.drop([number_of(f"viewer{number}") for number in range(3)], 1)
    assert (memory.followed, memory.follows_held) == ({}, 0)


@pytest.fixture
def readers(db):
    """More viewers than there is room for: each follows three who have ten posts each."""
    epoch = new_epoch()
    for number in range(8):
        viewer, followed = f"viewer{number}", [f"author{3 * number + n}" for n in range(3)]
        viewers.welcome(did(viewer), NOW_US)
        track(*followed)
        stream = Stream(epoch)
        stream.say(viewer, *(follow(tid(n), name) for n, name in enumerate(followed)))
        for name in followed:
            stream.say(name, *(post(tid(n), NOW_MS + n, tie=number_of(name)) for n in range(10)))
    return Readers(epoch)


class Readers:
    """Read pages of 25 in turns; `reads` counts what was asked of the database for memory."""

    def __init__(self, epoch):
        self.recent, self.epoch, self.reads = RecentItems(120), epoch, 0
        for name in ("read_newest", "read_items"):
            setattr(self.recent, name, partial(self._count, getattr(self.recent, name)))

    def _count(self, read_it, *given):
        self.reads += 1
        read_it(*given)

    def round(self, *numbers, limit=25):
        """Whose pages came out of memory."""
        self.reads, remembered = 0, []
        for number in numbers or range(8):
            page = recent_page(self.recent, number_of(f"viewer{number}"), EVERYTHING, limit)
            assert self.recent.memory.items_held <= self.recent.most_items
            if page is not None:
                assert len(page.items) == limit
                remembered.append(number)
        return remembered


def test_pages_that_find_no_room_take_none_from_others_and_read_nothing(readers):
    first = readers.round()
    assert 2 < len(first) < 8
    assert [(readers.round(), readers.reads) for _ in range(3)] == 3 * [(first, 0)]
    # Polls take less room, and there is some.
    assert readers.round(limit=1)[: len(first)] == first


def test_what_those_who_are_there_read_again_finds_room(readers):
    first = readers.round()
    for number in range(20):
        author = f"author{number % (3 * len(first))}"
        stream = Stream(readers.epoch, author)
        stream.revs[author] = 1 + number // (3 * len(first))
        stream.say(author, post(tid(50 + number), NOW_MS + 50 + number))
        assert readers.round() == first
        assert 0 < readers.reads <= 2


def test_whose_pages_take_more_room_than_there_is_are_searched(readers):
    first = readers.round(limit=3)
    assert first == list(range(8))
    readers.recent.most_items = readers.recent.memory.items_held + 1
    there = readers.round(limit=25)
    assert there == []
    assert readers.round(limit=25) == []
    # Who had no room for all of it goes on with what there is for less.
    assert readers.round(limit=3) != []


def test_what_no_page_has_had_for_long_makes_room(readers, monkeypatch):
    readers.recent.most_items = 110
    assert readers.round(0, 1, 2, 3) == [0, 1, 2, 3]
    assert readers.round(5, 6, 7) == []
    for name in ("IDLE_SECONDS", "SWEEP_SECONDS"):
        monkeypatch.setattr(recent_memory, name, 0.0)
    assert readers.round(5, 6, 7) == [5, 6, 7]
    monkeypatch.undo()
    assert readers.round(5, 6, 7) == [5, 6, 7]
    assert readers.reads == 0
