"""What replies hang on whose author is let go is judged by what we had, and by nothing older."""

import pytest

from server.core.feed import TimelineFilter
from server.core.projection import sort_key
from server.core.syntax import POST, tid_to_int
from server.storage import departures, outside_posts, viewers
from server.storage.batch import Batch
from server.storage.forget import forget
from server.storage.page_rows import Page
from server.storage.pages import Snapshot
from server.storage.timeline import timeline_page
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    commit_page,
    did,
    drop,
    finish,
    follow,
    job_of,
    make_live,
    number_of,
    post,
    repost,
    store_snapshot,
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


def shown():
    """Vera's page, with the rule for replies."""
    page = timeline_page(number_of("vera"), TimelineFilter(replies="following"), None, 9, NOW_US)
    return {item.post_uri[-13:] for item in page.items}


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

    stream.say("ben", reply)
    assert shown() == {tid(3)}
    stream.say("ben", post(tid(2), NOW_MS - 2))
    assert shown() == set()


@pytest.mark.parametrize("is_forgotten", [False, True])
@pytest.mark.parametrize("was_found", [False, True])
def test_what_hangs_on_a_post_that_was_deleted_stays_away_when_its_author_is_let_go(
    stream, is_forgotten, was_found
):
    viewers.welcome(did("vera"), NOW_US)
    make_live("vera", epoch=stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "dan"))
    make_live("ann", "dan", epoch=stream.epoch)
    stream.say("dan", post(tid(1), NOW_MS - 3))
    if was_found:
        # ben was a stranger when somebody replied first.
        stream.say("ann", post(tid(2), NOW_MS - 2, parent=("ben", tid(2)), root=("dan", tid(1))))
        for one in outside_posts.due(NOW_US, 9):
            outside_posts.settle(one, outside_posts.THERE, None)
    stream.say("vera", follow(tid(3), "ben"))
    make_live("ben", epoch=stream.epoch)
    stream.say("ben", post(tid(2), NOW_MS - 2), post(tid(4), NOW_MS - 2))
    stream.say("ann", post(tid(3), NOW_MS - 1, parent=("ben", tid(2)), root=("dan", tid(1))))
    stream.say("ann", post(tid(5), NOW_MS, parent=("ben", tid(4)), root=("dan", tid(1))))
    stream.say("ben", drop(tid(2)), drop(tid(4)))
    # One came back under its key, and nobody told us: its PDS lists it.
    stream.save(Batch(resets={did("ben")}))
    job, back = job_of("ben", stream.epoch), post(tid(4), NOW_MS - 2)
    assert store_snapshot(job, stream.revs["ben"] + 1, stream.epoch) is Snapshot.STORED
    assert commit_page(job, Page(POST, [back], {tid(4)}, None, None), stream.epoch)
    assert finish(job, 0, stream.epoch)
    stream.say("vera", unfollow(tid(3)))
    assert shown() == {tid(1), tid(5)}
    if is_forgotten:
        forget(did("ben"))
    else:
        let_go(stream.epoch)
    assert rows_of("ben") == 0
    assert shown() == {tid(1), tid(5)}


def test_what_a_reply_hangs_on_below_a_horizon_that_came_later_is_looked_up(stream):
    viewers.welcome(did("vera"), NOW_US)
    make_live("vera", epoch=stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "ben"))
    # The parent is older than what is fetched of ben, and the root is not.
    stream.say("ann", post(tid(9), NOW_MS, parent=("ben", tid(-5)), root=("ben", tid(5))))
    stream.say("ann", repost(tid(8), ("ben", tid(-6))))
    make_live("ann", "ben", epoch=stream.epoch, horizon=tid_to_int(tid(-4)))
    assert outside_posts.due(NOW_US, 9) == []
    assert outside_posts.want_again(number_of("ann"), sort_key(NOW_MS + 1, 0)) == 0
    assert outside_posts.want_again(number_of("ann"), 0) == 1
    assert [one.rkey for one in outside_posts.due(NOW_US, 9)] == [tid_to_int(tid(-5))]
    assert outside_posts.want_again(number_of("ann"), 0) == 0
