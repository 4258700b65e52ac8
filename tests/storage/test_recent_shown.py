"""A page out of memory that begins with what its viewer was shown before."""

import random

import pytest

from server.storage import recent_page, viewers
from server.storage.batch import Batch
from server.storage.database import write_transaction
from server.storage.recent_items import RecentItems
from server.storage.recent_memory import MOST_SHOWN, NOTHING_SHOWN
from server.storage.recent_page import recent_page as page_of
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
    repost,
    tid,
    track,
    unfollow,
)
from tests.storage.test_timeline import BY_RKEY
from tests.storage.timeline_world import VIEWER

NAMES = [f"author{number}" for number in range(12)]
EVERYTHING = BY_RKEY["everything"].filter
# Deeds that each are followed by pages, in all.
DEEDS = {"sqlite": 400, "postgresql": 120}
DEED_WEIGHTS = (9, 6, 1, 2, 1, 1)


class Scene:
    """Who follows twelve accounts with ten posts each, and what becomes of them."""

    def __init__(self, most_items=50_000):
        self.stream, self.recent = Stream(new_epoch()), RecentItems(most_items)
        self.viewer = viewers.welcome(did(VIEWER), NOW_US)
        track(*NAMES, "stranger")
        self.stream.say(VIEWER, *(follow(tid(n), name) for n, name in enumerate(NAMES)))
        self.there = {name: list(range(10)) for name in NAMES}
        for place, name in enumerate(NAMES):
            times = [NOW_MS - 1_000 * (n * len(NAMES) + place) for n in range(10)]
            self.stream.say(name, *(post(tid(n), ms) for n, ms in enumerate(times)))
        self.next = 100

    @property
    def memory(self):
        return self.recent.memory

    @property
    def shown(self):
        return self.memory.followed[self.viewer].shown

    def write(self, name, count=1):
        """New posts, newest of all."""
        numbers = range(self.next, self.next + count)
        self.next += count
        self.there[name] += numbers
        self.stream.say(name, *(post(tid(n), NOW_MS + 10 * n) for n in numbers))

    def drop(self, name, place=-1):
        """Drop one of the posts that are still there; those of the beginning are newest first."""
        if self.there[name]:
            self.stream.say(name, drop(tid(self.there[name].pop(place))))

    def page(self, limit, shown=EVERYTHING):
        """The page out of memory, which has to be what a search finds."""
        page = page_of(self.recent, self.viewer, shown, limit)
        assert page == timeline_page(self.viewer, shown, None, limit, NOW_US)
        return page


@pytest.fixture
def scene(db):
    return Scene()


@pytest.fixture
def searched(monkeypatch):
    """How often a page was made anew, from the newest items of all who are followed."""
    made = []
    near = recent_page._Search._near
    monkeypatch.setattr(
        recent_page._Search, "_near", lambda *given: (made.append(given), near(*given))[1]
    )
    return made


def test_whatever_happens_a_page_is_what_a_search_finds(database_url, scene, searched):
    rng, pages = random.Random(5), 0  # noqa: S311  the same deeds in every run
    for number in range(DEEDS[database_url.partition(":")[0]]):
        name = rng.choice(NAMES)
        match rng.choices(("write", "drop", "burst", "repost", "follow", "status"), DEED_WEIGHTS)[
            0
        ]:
            case "write":
                scene.write(name)
            case "drop":
                scene.drop(name)
            case "burst":
                scene.write(name, rng.choice((8, 40)))
            case "repost":
                subject = rng.choice(NAMES), tid(rng.randrange(10))
                scene.stream.say(name, repost(tid(5_000 + number), subject, NOW_MS + 5))
            case "follow":
                scene.stream.say(VIEWER, unfollow(tid(NAMES.index(name))))
                scene.page(6)
                scene.stream.say(VIEWER, follow(tid(NAMES.index(name)), name))
            case _:
                scene.stream.save(Batch(statuses={did(name): (False, "deactivated")}))
                scene.page(6)
                scene.stream.save(Batch(statuses={did(name): (True, None)}))
        for limit in rng.sample((1, 6, 30), 2):
            scene.page(limit, BY_RKEY[rng.choice(("everything", "following", "no-reposts"))].filter)
            pages += 1
    assert len(searched) < pages


def test_who_asks_again_is_shown_the_same_without_a_search(scene, searched):
    first = scene.page(6)
    searched.clear()
    assert [scene.page(limit) for limit in (6, 1, 6)][::2] == [first, first]
    assert searched == []


def test_what_one_account_did_costs_a_read_of_that_one(scene, searched, monkeypatch):
    scene.page(30)
    asked = []
    read_items = scene.recent.read_items
    monkeypatch.setattr(
        scene.recent, "read_items", lambda *given: (asked.append(given[1]), read_items(*given))
    )
    scene.write("author3")
    scene.there["stranger"] = []
    scene.write("stranger")
    searched.clear()
    scene.page(30)
    assert asked == [[scene.memory.place_of[number_of("author3")]]]
    assert searched == []


def test_where_too_little_is_left_of_what_was_shown_the_page_is_made_anew(scene, searched):
    scene.page(6)
    for name in NAMES:
        scene.drop(name, 0)
    searched.clear()
    scene.page(6)
    assert searched


def test_of_who_wrote_very_much_no_more_is_read_than_the_page_can_show(scene, searched):
    scene.page(6)
    scene.write("author3", 60)
    searched.clear()
    scene.page(6)
    assert searched == []
    held = scene.memory.items[scene.memory.place_of[number_of("author3")]]
    assert len(held.items) < 60
    # Of the others nothing is known any more that would stand on a longer one.
    assert {item.author for item in scene.shown.items} == {number_of("author3")}
    scene.page(90)
    assert searched


def test_items_for_which_there_was_no_room_are_read_again(scene, searched):
    scene.page(6)
    scene.write("author3")
    scene.page(6)
    scene.write("author4")
    scene.page(6)
    scene.write("author5")
    scene.recent.look()
    # As another page leaves it that finds no room for what it read.
    place = scene.memory.place_of[number_of("author5")]
    scene.recent.read_newest(scene.memory, [place])
    searched.clear()
    scene.page(6)
    assert searched == []


def test_another_memory_knows_nothing_of_what_was_shown(scene, searched):
    scene.page(6)
    with write_transaction():
        touch_everybody()
    searched.clear()
    scene.page(6)
    assert searched


def test_what_is_kept_of_pages_is_bounded(scene):
    scene.page(6)
    memory, shown = scene.memory, scene.shown
    assert 6 < len(shown.items) == memory.shown_held
    memory.keep_followed(-1, [1])
    memory.keep_shown(-1, memory.followed[-1], shown, most=2 * len(shown.items))
    assert memory.shown_held == 2 * len(shown.items)
    memory.drop_followed(-1)
    assert memory.shown_held == len(shown.items)
    followed = memory.followed[scene.viewer]
    memory.keep_shown(scene.viewer, followed, shown, most=len(shown.items) - 1)
    assert (scene.shown, memory.shown_held) == (NOTHING_SHOWN, 0)


def test_who_follows_others_by_the_time_that_a_page_is_made_is_not_shown_it_again(
    scene, monkeypatch
):
    scene.stream.say(VIEWER, unfollow(tid(3)))
    keep_shown = scene.recent.keep_shown

    def follow_meanwhile(*given):
        monkeypatch.undo()
        scene.stream.say(VIEWER, follow(tid(3), "author3"))
        scene.page(6)
        keep_shown(*given)

    monkeypatch.setattr(scene.recent, "keep_shown", follow_meanwhile)
    scene.drop("author1")
    scene.page(6)
    scene.page(6)
    assert scene.memory.shown_held == len(scene.shown.items)


def test_of_one_page_so_much_is_kept_and_no_more(scene):
    scene.write("author1", 150)
    scene.page(6)
    assert len(scene.shown.items) == 7
    scene.page(120)
    assert len(scene.shown.items) == MOST_SHOWN
    scene.write("author2", 5)
    scene.page(20)
    assert len(scene.shown.items) == MOST_SHOWN


def test_who_is_hidden_while_their_items_are_read_is_on_no_page_by_then(scene, monkeypatch):
    scene.page(6)
    read_items = scene.recent.read_items

    def hide_meanwhile(*given):
        monkeypatch.undo()
        # Another page has heard of it by now, and the next one is asked for when this was read.
        scene.stream.save(Batch(statuses={did("author3"): (False, "deactivated")}))
        scene.recent.look()
        read_items(*given)
        scene.page(6)

    monkeypatch.setattr(scene.recent, "read_items", hide_meanwhile)
    scene.page(30)
    scene.page(6)
