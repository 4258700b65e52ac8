"""Which statements a search for a page takes, and what happens between two of them."""

import pytest

from feeds import FEEDS
from server.core.syntax import POST
from server.storage import timeline, viewers
from server.storage.timeline import timeline_page
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
)
from tests.storage.timeline_world import VIEWER

BY_RKEY = {feed.rkey: feed for feed in FEEDS}


def test_what_goes_between_two_looks_does_not_end_the_feed(db, monkeypatch):
    names = [f"author{number}" for number in range(6)]
    track(*names)
    number, stream = viewers.welcome(did(VIEWER), NOW_US), Stream(new_epoch())
    for index, name in enumerate(names):
        stream.say(VIEWER, follow(tid(index), name))
        stream.say(name, *(post(tid(n), NOW_MS - 10 * n - index) for n in range(3)))
    look, gone = timeline.prepared_rows, set()

    def look_and_delete(sql, values):
        found = look(sql, values)
        if "OFFSET :window" in sql:
            # The second of each author's three posts: it may be on the page, and may be next.
            stream.say(names[len(gone)], drop(tid(1)))
            gone.add(f"at://{did(names[len(gone)])}/{POST}/{tid(1)}")
        return found

    monkeypatch.setattr(timeline, "follow_count", lambda _: 40)
    monkeypatch.setattr(timeline, "MANY_FOLLOWS", 1)
    monkeypatch.setattr(timeline, "prepared_rows", look_and_delete)
    shown = BY_RKEY["everything"].filter
    page = timeline_page(number, shown, None, 13, NOW_US)
    assert gone, "nothing was deleted meanwhile"
    assert page.has_more
    assert len({item.post_uri for item in page.items}) == 13
    rest = timeline_page(number, shown, page.items[-1].key, 50, NOW_US)
    found = {item.post_uri for item in (*page.items, *rest.items)}
    assert len(found | gone) == 3 * len(names)


def test_windows_of_a_later_page_are_together_no_dearer_than_a_look(db, monkeypatch):
    viewers.welcome(did(VIEWER), NOW_US)
    track("ann", "bob")
    stream = Stream(new_epoch())
    stream.say(VIEWER, follow(tid(1), "ann"))
    # How far down each post is. Ann's are near the cursor, and then rare.
    of_ann = [0, 1, 2, 3, 12, 50, 90, 150, 290]
    stream.say("ann", *(post(tid(n), NOW_MS - n) for n in of_ann))
    stream.say("bob", *(post(tid(n), NOW_MS - n) for n in range(300) if n not in of_ann))
    look, windows = timeline.prepared_rows, []

    def note(sql, values):
        windows.append(values.get("window", 0))
        return look(sql, values)

    monkeypatch.setattr(timeline, "follow_count", lambda _: 40)
    monkeypatch.setattr(timeline, "MANY_FOLLOWS", 1)
    monkeypatch.setattr(timeline, "DEEP", 5.2)
    monkeypatch.setattr(timeline, "DEEP_IN_SQLITE", 5.2)
    shown = BY_RKEY["everything"].filter
    first = timeline_page(number_of(VIEWER), shown, None, 1, NOW_US)
    monkeypatch.setattr(timeline, "prepared_rows", note)
    page = timeline_page(number_of(VIEWER), shown, first.items[-1].key, 5, NOW_US)
    assert [item.post_uri[-13:] for item in page.items] == [tid(n) for n in of_ann[1:6]]
    # Two windows; a third one of 201 rows would cost more than what is left, so: a look.
    assert windows == [5, 19, 0]


@pytest.mark.parametrize("rkey", ["posts-only", "no-reposts"])
def test_a_page_without_reposts_takes_one_look(db, monkeypatch, rkey):
    viewers.welcome(did(VIEWER), NOW_US)
    track("ann")
    stream = Stream(new_epoch())
    stream.say(VIEWER, follow(tid(1), "ann"))
    posts = [post(tid(n), NOW_MS + n) for n in range(0, 100, 2)]
    reposts = [repost(tid(n), ("sam", tid(n)), NOW_MS + n) for n in range(1, 100, 2)]
    stream.say("ann", *posts, *reposts)
    look, looks = timeline.prepared_rows, []
    monkeypatch.setattr(timeline, "prepared_rows", lambda *a: looks.append(a) or look(*a))
    shown = BY_RKEY[rkey].filter
    page = timeline_page(number_of(VIEWER), shown, None, 30, NOW_US)
    assert (len(page.items), page.has_more, len(looks)) == (30, True, 1)
