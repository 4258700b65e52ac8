"""Who follows a viewer back: what the stream says, what a look-up says, and which of them wins."""

import itertools
import threading

import pytest

from server.core.syntax import tid_to_int
from server.storage import follow_backs, gaps, viewers
from server.storage.batch import Batch
from server.storage.database import database, execute, rows, write_transaction
from server.storage.follow_backs import LAG_US, LAPSED_US, ROUND_US, STALE_US
from server.storage.forget import forget
from server.storage.many_rows import update_rows
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    did,
    follow,
    make_live,
    number_of,
    tid,
    track,
    unfollow,
)

pytestmark = pytest.mark.usefixtures("db")

STRANGER = "stranger"


@pytest.fixture
def stream(lease):
    """A viewer who follows ann and ben, all of them complete."""
    viewers.welcome(did("viewer"), NOW_US)
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(1), "ann"), follow(tid(2), "ben"))
    make_live("viewer", "ann", "ben", rev=1)
    stream.revs |= {"ann": 1, "ben": 1}
    return stream


def told():
    """By author: whether they follow the viewer, as far as we were told."""
    found = rows(
        "SELECT author_id, rkey FROM follow_backs WHERE viewer_id = ?", (number_of("viewer"),)
    )
    names = {number_of(name): name for name in ("ann", "ben", STRANGER)}
    return {names[author]: rkey is not None for author, rkey in found}


def asked(now_us=NOW_US):
    found = follow_backs.unknown(number_of("viewer"), now_us, 100)
    return {one.did for one in found}


def look_up(asked_us, **follows):
    keys = {number_of(name): tid_to_int(rkey) if rkey else None for name, rkey in follows.items()}
    follow_backs.save(number_of("viewer"), keys, asked_us)


def test_the_stream_tells_who_begins_and_who_ends_to_follow_back(stream):
    stream.say("ann", follow(tid(5), "viewer"))
    assert told() == {"ann": True}
    stream.say("ann", unfollow(tid(5)))
    assert told() == {"ann": False}
    stream.say("ann", follow(tid(6), "viewer"), unfollow(tid(6)), follow(tid(7), "viewer"))
    assert told() == {"ann": True}


# What ann says, record by record: of a viewer, of somebody who is none, and that it is gone.
SAYINGS = [(verb, n) for verb in ("viewer", "ben", None) for n in (5, 6)]


def kept(said, rkey=None):
    """Whether there is a row in the end, and its record key."""
    is_there = rkey is not None
    for subject, n in said:
        # An edited record names whom it names now, and nobody else.
        if rkey == n:
            rkey = None
        if subject == "viewer":
            rkey, is_there = n, True
    return is_there, rkey


@pytest.mark.parametrize("before", [None, 5])
def test_a_batch_says_what_its_records_say_one_after_the_other(stream, before):
    for said in itertools.product(SAYINGS, repeat=3):
        execute("DELETE FROM follow_backs")
        if before is not None:
            look_up(NOW_US, ann=tid(before))
        stream.say("ann", *(follow(tid(n), who) if who else unfollow(tid(n)) for who, n in said))
        is_there, rkey = kept(said, before)
        found = rows("SELECT rkey FROM follow_backs")
        assert found == ([(rkey and tid_to_int(tid(rkey)),)] if is_there else []), said


def test_a_follow_that_is_edited_follows_the_other_one_only(stream):
    stream.say("ann", follow(tid(5), "viewer"))
    stream.say("ann", follow(tid(5), "ben"))
    assert told() == {"ann": False}
    stream.say("ann", follow(tid(5), "viewer"))
    assert told() == {"ann": True}


def test_follows_among_others_leave_no_trace(stream):
    stream.say("ann", follow(tid(5), "ben"), unfollow(tid(4)))
    assert told() == {}
    assert rows("SELECT * FROM tombstones") == []
    assert rows("SELECT count(*) FROM follows WHERE viewer_id = ?", (number_of("ann"),)) == [(0,)]


def test_a_batch_that_comes_again_changes_nothing(stream):
    commits = [stream.next("ann", follow(tid(5), "viewer")), stream.next("ann", unfollow(tid(5)))]
    for _ in range(2):
        stream.save(Batch(commits=commits))
        assert told() == {"ann": False}


def test_a_look_up_fills_in_what_the_stream_never_said(stream):
    assert asked() == {did("ann"), did("ben")}
    look_up(NOW_US, ann=tid(5), ben=None)
    assert told() == {"ann": True, "ben": False}
    assert asked() == set()
    stream.say("ann", unfollow(tid(5)))
    assert told() == {"ann": False, "ben": False}


def test_the_stream_wins_over_an_appview_that_is_behind(stream):
    stream.say("ann", follow(tid(5), "viewer"))
    look_up(NOW_US + LAG_US, ann=None)
    assert told() == {"ann": True}
    look_up(NOW_US + LAG_US + 1, ann=None)
    assert told() == {"ann": False}


def test_a_word_of_a_clock_that_was_ahead_is_asked_for_again_and_replaced(stream):
    look_up(NOW_US + 52 * STALE_US, ann=None, ben=None)
    assert asked() == {did("ann"), did("ben")}
    look_up(NOW_US, ann=tid(7))
    assert told() == {"ann": True, "ben": False}
    assert asked() == {did("ben")}


def test_an_old_word_is_asked_for_again(stream):
    look_up(NOW_US, ann=tid(5), ben=None)
    assert asked(NOW_US + STALE_US - LAG_US) == set()
    assert asked(NOW_US + STALE_US + 1) == {did("ann"), did("ben")}


def test_what_a_hole_may_have_hidden_is_asked_for_again_and_stands_until_then(stream, lease):
    look_up(NOW_US, ann=tid(5), ben=tid(6))
    stream.say("ann", hole="tooBig")
    assert asked() == {did("ann")}
    with write_transaction():
        gaps.open_for_all(HOST, "no cursor", 0, NOW_MS, NOW_US)
    assert asked() == {did("ann"), did("ben")}
    assert told() == {"ann": True, "ben": True}
    follow_backs.expire(NOW_US)
    assert told() == {"ann": True, "ben": True}


def test_nobody_is_looked_up_before_they_open_a_feed_of_mutuals(stream):
    assert follow_backs.due(NOW_US) is None
    assert follow_backs.want(number_of("viewer"), NOW_US)
    assert follow_backs.due(NOW_US) == (number_of("viewer"), did("viewer"))
    assert not follow_backs.are_tried(number_of("viewer"))
    follow_backs.done(number_of("viewer"), NOW_US + ROUND_US, NOW_US)
    assert follow_backs.are_tried(number_of("viewer"))
    assert follow_backs.due(NOW_US) is None
    assert follow_backs.due(NOW_US + ROUND_US) is not None
    # Later requests queue nothing, and nobody waits.
    assert not follow_backs.want(number_of("viewer"), NOW_US)
    assert follow_backs.due(NOW_US) is None


def test_nobody_waits_long_for_a_look_up_that_does_not_come(stream):
    assert follow_backs.want(number_of("viewer"), NOW_US)
    assert follow_backs.want(number_of("viewer"), NOW_US + follow_backs.HOPELESS_US - 1)
    assert not follow_backs.want(number_of("viewer"), NOW_US + follow_backs.HOPELESS_US)


def test_a_first_look_up_does_not_wait_for_the_time_of_a_clock_that_was_ahead(stream):
    assert follow_backs.want(number_of("viewer"), NOW_US + ROUND_US)
    assert follow_backs.due(NOW_US) is None
    assert follow_backs.want(number_of("viewer"), NOW_US)
    assert follow_backs.due(NOW_US) is not None
    assert not follow_backs.want(number_of("viewer"), NOW_US + follow_backs.HOPELESS_US)
    follow_backs.done(number_of("viewer"), NOW_US + ROUND_US, NOW_US)
    # A later one has its time.
    assert not follow_backs.want(number_of("viewer"), NOW_US)
    assert follow_backs.due(NOW_US) is None


def test_a_new_follow_makes_the_look_up_due_at_once(stream):
    follow_backs.want(number_of("viewer"), NOW_US)
    look_up(NOW_US, ann=None, ben=None)
    follow_backs.done(number_of("viewer"), NOW_US + ROUND_US, NOW_US)
    stream.say("viewer", follow(tid(3), "cat"))
    assert follow_backs.due(NOW_US) is not None
    assert asked() == {did("cat")}


def test_whoever_is_followed_again_is_asked_about_again(stream):
    look_up(NOW_US, ann=tid(5), ben=None)
    stream.say("viewer", unfollow(tid(1)))
    stream.say("viewer", follow(tid(3), "ann"))
    assert asked() == {did("ann")}
    assert told() == {"ann": True, "ben": False}


def test_a_look_up_waits_for_the_follows_themselves(lease):
    number = viewers.welcome(did("newcomer"), NOW_US)
    follow_backs.want(number, NOW_US)
    assert follow_backs.due(NOW_US) is None
    make_live("newcomer")
    assert follow_backs.due(NOW_US) is not None


def test_who_has_not_been_here_for_long_is_let_go(stream):
    follow_backs.want(number_of("viewer"), NOW_US)
    look_up(NOW_US, ann=tid(5))
    later_us = NOW_US + LAPSED_US + 1
    assert follow_backs.due(later_us) is None
    assert follow_backs.expire(later_us) == 1
    assert told() == {}
    assert follow_backs.want(number_of("viewer"), later_us)


def test_who_follows_back_stays_where_nobody_is_asked_again(stream):
    stream.say("ann", follow(tid(5), "viewer"))
    stream.say("ben", follow(tid(5), "viewer"))
    track(STRANGER)
    stream.say(STRANGER, follow(tid(5), "viewer"))
    stream.say("viewer", unfollow(tid(2)))
    later_us = NOW_US + 2 * LAPSED_US
    viewers.touch(number_of("viewer"), later_us)
    assert follow_backs.expire(later_us) == 2
    assert told() == {"ann": True}


def test_for_a_viewer_who_was_forgotten_nobody_waits(stream):
    viewer = number_of("viewer")
    forget(did("viewer"))
    assert not follow_backs.want(viewer, NOW_US)
    assert follow_backs.due(NOW_US) is None


def test_what_was_looked_up_for_a_viewer_who_was_forgotten_meanwhile_is_not_kept(stream):
    viewer = number_of("viewer")
    forget(did("viewer"))
    follow_backs.save(viewer, {number_of("ann"): 1, number_of("ben"): None}, NOW_US)
    assert rows("SELECT * FROM follow_backs") == []


def test_nothing_is_kept_of_a_viewer_who_is_forgotten_while_a_batch_names_them(stream, monkeypatch):
    def forget_viewer():
        forget(did("viewer"))
        database.close()

    gone = threading.Thread(target=forget_viewer)

    def forgotten_first(*args):
        gone.start()
        # Either it is over, or it waits for this batch.
        gone.join(0.5)
        update_rows(*args)

    monkeypatch.setattr(follow_backs, "update_rows", forgotten_first)
    stream.say("ann", follow(tid(5), "viewer"))
    gone.join()
    assert rows("SELECT * FROM follow_backs") == []


def test_only_follows_of_viewers_are_kept(stream):
    track(STRANGER)
    stream.say("ann", follow(tid(5), STRANGER))
    assert rows("SELECT * FROM follow_backs") == []
    viewers.welcome(did(STRANGER), NOW_US)
    stream.say("ann", follow(tid(6), STRANGER))
    assert len(rows("SELECT * FROM follow_backs")) == 1
