"""What replies hang on whose author is let go is judged by what we had, and by nothing older."""

import pytest

from server.core.feed import TimelineFilter
from server.storage import departures, outside_posts, viewers
from server.storage.forget import forget
from server.storage.timeline import timeline_page
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    follow,
    make_live,
    number_of,
    post,
    tid,
    track,
    unfollow,
)
from tests.storage.needed import rows_of


@pytest.fixture
def stream(db, lease):
    return Stream(lease.epoch)


def let_go(epoch):
    """Everybody whom nobody needs."""
    departures.note_lonely(0, 999, NOW_US)
    for number in departures.due(NOW_US + departures.LONELY_US, 999):
        while departures.depart(number, epoch, NOW_US):
            pass


@pytest.mark.parametrize(
    "state", [outside_posts.WANTED, outside_posts.MISSING, outside_posts.UNKNOWN]
)
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_what_was_once_found_of_posts_does_not_count_again_when_their_author_is_let_go(
    stream, state, is_forgotten
):
    viewers.welcome(did("vera"), NOW_US)
    make_live("vera", epoch=stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "dan"))
    make_live("ann", "dan", epoch=stream.epoch)
    # ben is a stranger, whose posts are looked up while his PDS does not show them.
    stream.say("ann", post(tid(3), NOW_MS - 1, parent=("ben", tid(2)), root=("dan", tid(1))))
    stream.say("ann", post(tid(4), NOW_MS - 1, parent=("dan", tid(1)), root=("ben", tid(5))))
    stream.say("dan", post(tid(1), NOW_MS - 3))
    asked = outside_posts.due(NOW_US, 9)
    for one in asked:
        if state != outside_posts.WANTED:
            outside_posts.settle(one, state, None)
    stream.say("vera", follow(tid(3), "ben"))
    make_live("ben", epoch=stream.epoch)
    stream.say("ben", post(tid(2), NOW_MS - 2, parent=("dan", tid(1))), post(tid(5), NOW_MS - 4))
    stream.say("vera", unfollow(tid(3)))

    def shown():
        page = timeline_page(
            number_of("vera"), TimelineFilter(replies="following"), None, 9, NOW_US
        )
        return {item.post_uri[-13:] for item in page.items}

    assert shown() == {tid(3), tid(4), tid(1)}
    if is_forgotten:
        forget(did("ben"))
    else:
        let_go(stream.epoch)
    assert rows_of("ben") == 0
    # What a look-up finds that was under way is older than what we know.
    for one in asked:
        outside_posts.settle(one, outside_posts.MISSING, None)
    assert shown() == {tid(3), tid(4), tid(1)}


def test_whom_a_parent_replied_to_before_it_was_edited_does_not_count(stream):
    viewers.welcome(did("vera"), NOW_US)
    make_live("vera", epoch=stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "dan"))
    make_live("ann", "dan", epoch=stream.epoch)
    # ben is a stranger, and his post replied to dan when it was looked up.
    stream.say("ann", post(tid(3), NOW_MS - 1, parent=("ben", tid(2)), root=("eve", tid(9))))
    for one in outside_posts.due(NOW_US, 9):
        outside_posts.settle(one, outside_posts.THERE, number_of("dan"))
    track("ben")
    make_live("ben", epoch=stream.epoch)
    reply = post(tid(2), NOW_MS - 2, parent=("dan", tid(1)))

    def shown():
        page = timeline_page(
            number_of("vera"), TimelineFilter(replies="following"), None, 9, NOW_US
        )
        return {item.post_uri[-13:] for item in page.items}

    stream.say("ben", reply)
    assert shown() == {tid(3)}
    stream.say("ben", post(tid(2), NOW_MS - 2))
    assert shown() == set()
