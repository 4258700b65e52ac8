"""What a page out of memory reads of the database: how often, how much, and of which moment."""

import threading
from functools import partial

import pytest

from server.storage import viewers
from server.storage.batch import Batch
from server.storage.database import database, is_sqlite, write_transaction
from server.storage.recent_items import Beside, RecentItems
from server.storage.recent_memory import Memory
from server.storage.recent_page import _Search, recent_page
from server.storage.timeline import timeline_page
from server.storage.touched import touch
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
)
from tests.storage.test_timeline import BY_RKEY
from tests.storage.timeline_world import VIEWER

EVERYTHING = BY_RKEY["everything"].filter


class Waits:
    """What the process waits for the database for, page by page."""

    def __init__(self, recent, patch):
        self.seen = []
        for name in ("look", "read_followed", "read_newest", "read_items", "read_threads"):
            patch.setattr(recent, name, partial(self.note, name, getattr(recent, name)))

    def note(self, name, do, *given):
        self.seen.append(name)
        return do(*given)

    def of_page(self, recent, viewer, feed="following", limit=5):
        self.seen.clear()
        page = recent_page(recent, number_of(viewer), BY_RKEY[feed].filter, limit)
        return [item.post_uri[-13:] for item in page.items], self.seen


def test_a_page_waits_for_the_database_as_rarely_as_can_be(db, monkeypatch):
    epoch, recent = new_epoch(), RecentItems(50_000)
    stream, waits = Stream(epoch), Waits(recent, monkeypatch)
    for name in (VIEWER, "other"):
        viewers.welcome(did(name), NOW_US)
    track("ann", "ben", "cat")
    stream.say(VIEWER, follow(tid(1), "ann"), follow(tid(2), "ben"))
    stream.say("other", follow(tid(1), "ann"), follow(tid(2), "cat"))
    stream.say("ann", *(post(tid(n), NOW_MS - 1000 * n) for n in range(9)))
    stream.say("ben", post(tid(2), NOW_MS - 500))
    stream.say("cat", *(post(tid(n), NOW_MS - 1000 * n) for n in range(3)))
    cold = ["look", "read_followed", "read_newest", "read_items", "look"]
    assert waits.of_page(recent, VIEWER) == ([tid(0), tid(2), tid(1), tid(2), tid(3)], cold)
    assert waits.of_page(recent, VIEWER)[1] == ["look"]
    # Another viewer's page reaches further down into ann's.
    waits.of_page(recent, "other", limit=7)
    # Whoever writes is read again once for all pages, threads and all.
    stream.say("ann", post(tid(10), NOW_MS + 1, parent=("ben", tid(2))))
    # Where a look is a wait, the read itself says that nothing was noted since the last one.
    again = ["look", "read_items", *["look"] * is_sqlite()]
    assert waits.of_page(recent, VIEWER) == ([tid(10), tid(0), tid(2), tid(1), tid(2)], again)
    found, waited = waits.of_page(recent, "other", limit=7)
    assert found == [tid(0), tid(0), tid(1), tid(1), tid(2), tid(2), tid(3)]
    assert waited == ["look"]


@pytest.mark.parametrize("when", ["read_followed", "read_newest", "read_items"])
def test_what_is_committed_while_a_page_is_read_is_on_it_as_a_whole(db, monkeypatch, when):
    epoch, recent, names = new_epoch(), RecentItems(50_000), ("ann", "ben", "cat", "dan")
    stream, viewer = Stream(epoch), viewers.welcome(did(VIEWER), NOW_US)
    track(*names)
    stream.say(VIEWER, *(follow(tid(n), name) for n, name in enumerate(names)))
    for n, name in enumerate(names):
        stream.say(name, post(tid(n), NOW_MS - 1000 * n))
    both = [stream.next("ann", drop(tid(0))), stream.next("dan", post(tid(9), NOW_MS))]
    read_it = getattr(recent, when)

    def read_after_a_batch(*given):
        while both:
            stream.save(Batch(commits=[both.pop(0), both.pop(0)]))
        read_it(*given)

    monkeypatch.setattr(recent, when, read_after_a_batch)
    page = recent_page(recent, viewer, EVERYTHING, 2)
    assert not both
    # What ann and dan did at once; whoever knows only of one has ben's and cat's here.
    assert [item.post_uri[-13:] for item in page.items] == [tid(9), tid(1)]


class Scene:
    """Two viewers. The other one follows only some of those whom the viewer follows."""

    def __init__(self):
        self.stream = Stream(new_epoch())
        self.viewer, self.other = (viewers.welcome(did(one), NOW_US) for one in (VIEWER, "other"))
        self.recent = RecentItems(50_000)
        names = ("ann", "ben", "cat", "dan", "eve")
        track(*names)
        self.stream.say(VIEWER, *(follow(tid(n), name) for n, name in enumerate(names)))
        self.stream.say("other", follow(tid(0), "eve"), follow(tid(1), "dan"))
        for n, name in enumerate(names[:4]):
            posts = (post(tid(m), NOW_MS - 1000 * n - 10_000 * m) for m in range(3))
            self.stream.say(name, *posts)

    def from_the_database(self, limit=2):
        return timeline_page(self.viewer, EVERYTHING, None, limit, NOW_US)

    def page(self, limit=2):
        return recent_page(self.recent, self.viewer, EVERYTHING, limit)


@pytest.fixture
def scene(db):
    return Scene()


@pytest.fixture
def overtake(scene, monkeypatch):
    """After the viewer's next look another page, which looked before, reads this all around it."""
    look, read_items = scene.recent.look, scene.recent.read_items

    def run(commits):
        def read_after_the_batch(*given):
            if commits:
                scene.stream.save(Batch(commits=[commits.pop() for _ in tuple(commits)]))
            read_items(*given)

        def look_and_be_overtaken():
            look()
            # It comes as far as to its last look.
            looks = iter([None])
            monkeypatch.setattr(scene.recent, "look", lambda: next(looks))
            with pytest.raises(StopIteration):
                recent_page(scene.recent, scene.other, EVERYTHING, 100)
            monkeypatch.setattr(scene.recent, "look", look)

        monkeypatch.setattr(scene.recent, "read_items", read_after_the_batch)
        monkeypatch.setattr(scene.recent, "look", look_and_be_overtaken)

    return run


def test_a_feed_does_not_end_where_another_page_found_the_newest_item_gone(scene, overtake):
    scene.page()
    scene.stream.say("eve", post(tid(9), NOW_MS))
    commits = [scene.stream.next("eve", drop(tid(9)))]
    overtake(commits)
    page = scene.page()
    assert (page, commits) == (scene.from_the_database(), [])


def test_what_another_page_reads_meanwhile_is_of_no_other_moment(scene, overtake):
    scene.page()
    scene.stream.say("dan", post(tid(8), NOW_MS))
    changes = {"ann": drop(tid(0)), "dan": post(tid(9), NOW_MS)}
    both = [scene.stream.next(name, change) for name, change in changes.items()]
    overtake(both)
    page = scene.page(limit=3)
    assert (page, both) == (scene.from_the_database(limit=3), [])


def _read_threads(recent, viewer):
    replies = [item for one in recent.memory.items.values() for item in one.items if item.thread]
    recent.read_threads(recent.memory, replies)


OTHERS_READ = {
    "followed": lambda recent, viewer: recent.read_followed(viewer),
    "newest": lambda recent, viewer: recent.read_newest(recent.memory, [0]),
    "items": lambda recent, viewer: recent.read_items(
        recent.memory, [0], NOW_MS << 21, 9, Beside(newest=False, threads=False)
    ),
    "threads": _read_threads,
}


@pytest.mark.parametrize("what", OTHERS_READ)
def test_whatever_another_page_reads_of_those_followed_is_looked_after(scene, monkeypatch, what):
    recent, stream = scene.recent, scene.stream
    stream.say("ann", post(tid(9), NOW_MS + 1, parent=("ben", tid(1))))
    recent_page(recent, scene.viewer, BY_RKEY["following"].filter, 9)
    look, looks = recent.look, []

    def look_and_be_overtaken():
        look()
        looks.append(True)
        if len(looks) == 1:
            # Something was committed, so that what is read may be newer than what was heard.
            with write_transaction():
                touch([number_of("nobody")])
            OTHERS_READ[what](recent, scene.viewer)

    monkeypatch.setattr(recent, "look", look_and_be_overtaken)
    scene.page()
    assert len(looks) == 2
    scene.page()
    assert len(looks) == 3


def test_whom_another_page_reads_at_this_moment_is_no_hindrance(scene):
    recent, is_walked = scene.recent, []
    for name in ("eve", VIEWER):
        scene.stream.say(name, post(tid(9), NOW_MS - 500))
    scene.page()
    recent_page(recent, scene.other, EVERYTHING, 2)
    scene.stream.say("dan", post(tid(9), NOW_MS + 1))

    class Overtaken(list):
        def __iter__(self):
            yield from list.__iter__(self)
            if not is_walked:
                is_walked.append(True)
                recent_page(recent, scene.other, EVERYTHING, 2)

    followed = recent.memory.followed[scene.viewer]
    followed.places = Overtaken(followed.places)
    assert (scene.page(), is_walked) == (scene.from_the_database(), [True])


def test_what_another_page_reads_of_others_costs_no_look(scene, monkeypatch):
    recent = scene.recent
    scene.page()
    recent_page(recent, scene.other, EVERYTHING, 2)
    look, looks = recent.look, []

    def look_and_be_overtaken():
        look()
        looks.append(True)
        recent.read_newest(recent.memory, [recent.memory.place(number_of("ann"))])

    monkeypatch.setattr(recent, "look", look_and_be_overtaken)
    recent_page(recent, scene.other, EVERYTHING, 2)
    assert len(looks) == 1


def test_a_page_that_begins_while_something_is_forgotten_is_of_one_moment(scene, monkeypatch):
    """It finds the accounts before that, and their items when another page has read them again."""
    scene.page()
    main = threading.current_thread()
    forgets, heads_are_found, is_read = (threading.Event() for _ in range(3))
    drop_all, heads_of, look = Memory.drop, _Search._heads, scene.recent.look

    def slow_drop(*given):
        forgets.set()
        assert heads_are_found.wait(10)
        drop_all(*given)

    def slow_heads(search, followed, count):
        found = heads_of(search, followed, count)
        if threading.current_thread() is main and not heads_are_found.is_set():
            heads_are_found.set()
            assert is_read.wait(10)
        return found

    def other_page():
        scene.page()
        is_read.set()
        database.close()

    other = threading.Thread(target=other_page)

    def look_and_be_late():
        look()
        if threading.current_thread() is main and not forgets.is_set():
            changes = {"ann": drop(tid(0)), "eve": post(tid(9), NOW_MS)}
            commits = [scene.stream.next(name, change) for name, change in changes.items()]
            scene.stream.save(Batch(commits=commits))
            other.start()
            assert forgets.wait(10)

    monkeypatch.setattr(Memory, "drop", slow_drop)
    monkeypatch.setattr(_Search, "_heads", slow_heads)
    # As for one whose last page is not remembered.
    monkeypatch.setattr(_Search, "_again", lambda *_: [])
    monkeypatch.setattr(scene.recent, "look", look_and_be_late)
    page = scene.page()
    other.join(10)
    assert page == scene.from_the_database()
