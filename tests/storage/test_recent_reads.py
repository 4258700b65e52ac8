"""What a page out of memory reads of the database: how often, how much, and of which moment."""

from functools import partial

import pytest

from server.storage import recent_memory, viewers
from server.storage.changes import Batch
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
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
    again = [tid(10), tid(0), tid(2), tid(1), tid(2)], ["look", "read_items", "look"]
    assert waits.of_page(recent, VIEWER) == again
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
