"""A clock that was ahead, and is set back: what was queued meanwhile does not wait for it."""

import pytest

from server.core.projection import sort_key
from server.storage import departures, discrepancies, follow_backs, jobs, outside_posts, viewers
from server.storage.cursors import StreamCursor, save_cursor
from server.storage.database import execute, value, write_transaction
from server.storage.many_rows import insert_rows
from server.storage.set_back import bring_forward
from tests.builders import NOW_MS, NOW_US, confirm_all, did, job_of, make_live, number_of, track
from tests.storage.test_plans import Spy

# When the clock was set back, by a month.
THEN_US = NOW_US + 30 * 86_400_000_000


@pytest.fixture
def alice(db, lease):
    track("alice", now_us=THEN_US)
    return number_of("alice")


def test_a_job_runs(alice, lease):
    confirm_all(lease.epoch)
    assert jobs.due(NOW_US, 9, ()) == []
    assert bring_forward(NOW_US) == 1
    assert [job.did for job in jobs.due(NOW_US, 9, ())] == [did("alice")]


def test_a_job_that_waits_for_a_time_of_this_clock_goes_on_waiting(alice, lease):
    job = job_of("alice", lease.epoch)
    jobs.fail(job, "it asks for rest", NOW_US + jobs.LONGEST_DELAY_US)
    # The clock is put right now and then, by a little.
    assert bring_forward(NOW_US - 1_000_000) == 0
    assert jobs.due(NOW_US, 9, ()) == []


def test_a_post_of_a_stranger_is_looked_up(db):
    with write_transaction():
        outside_posts.want([(number_of("sam"), 7, sort_key(NOW_MS, 0))])
    (post,) = outside_posts.due(THEN_US, 9)
    outside_posts.postpone(post, THEN_US)
    assert outside_posts.due(NOW_US, 9) == []
    bring_forward(NOW_US)
    assert len(outside_posts.due(NOW_US, 9)) == 1


def test_who_opens_a_feed_of_mutuals_is_looked_up(db, lease):
    viewer = viewers.welcome(did("vera"), THEN_US)
    make_live("vera", epoch=lease.epoch)
    follow_backs.want(viewer, THEN_US)
    assert follow_backs.due(NOW_US) is None
    bring_forward(NOW_US)
    assert follow_backs.due(NOW_US) == (viewer, did("vera"))


def test_who_was_here_then_was_here_now_at_the_latest(db):
    viewer = viewers.welcome(did("vera"), THEN_US)
    # Their job. Before the first event nobody knows which clock is right.
    assert bring_forward(1) == 1
    assert viewers.gone_since(NOW_US, 9) == []
    save_cursor(StreamCursor("relay.test", 1, NOW_MS), NOW_US)
    bring_forward(NOW_US)
    assert viewers.gone_since(NOW_US + 1, 9) == [viewer]
    # In 1970, say, the stream knows better: nobody has been away since then.
    bring_forward(1)
    assert viewers.gone_since(NOW_US, 9) == []


def test_who_is_on_the_list_of_departures_stays_on_it_for_a_day(alice, lease):
    make_live("alice", epoch=lease.epoch)
    departures.note_lonely(0, 9, THEN_US)
    save_cursor(StreamCursor("relay.test", 1, NOW_MS), NOW_US)
    assert bring_forward(NOW_US) == 1
    assert departures.due(NOW_US + departures.LONELY_US - 1, 9) == []
    assert departures.due(NOW_US + departures.LONELY_US, 9) == [alice]


def test_a_clock_that_is_put_back_too_far_shortens_nobodys_day(alice, lease):
    make_live("alice", epoch=lease.epoch)
    departures.note_lonely(0, 9, NOW_US)
    save_cursor(StreamCursor("relay.test", 1, NOW_MS), NOW_US)
    # As a machine without a clock of its own begins, until it has asked for the time.
    bring_forward(1)
    assert departures.due(NOW_US + departures.LONELY_US - 1, 9) == []


def test_where_the_clock_is_right_nothing_changes(db, lease):
    track("alice", now_us=NOW_US)
    viewer = viewers.welcome(did("vera"), NOW_US)
    follow_backs.want(viewer, NOW_US)
    follow_backs.done(viewer, NOW_US + follow_backs.ROUND_US, NOW_US)
    departures.note_lonely(0, 9, NOW_US)
    assert value("SELECT count(*) FROM departures") == 1
    assert bring_forward(NOW_US) == 0


@pytest.mark.by_hand
def test_posts_of_strangers_that_do_not_wait_are_not_looked_at(db, monkeypatch):
    states = [outside_posts.WANTED] * 5 + [outside_posts.THERE] * 5_000
    insert_rows(
        "INSERT INTO outside_posts (author_id, rkey, state, newest_key)",
        [(n, n, state, n) for n, state in enumerate(states)],
    )
    execute("ANALYZE")
    spy = Spy(monkeypatch)
    bring_forward(NOW_US)
    ((_, plan),) = spy.plans("outside_posts")
    assert "outside_posts_wanted" in plan


def test_a_source_that_was_read_then_no_longer_counts_as_the_one_that_is(db, lease):
    then, now = StreamCursor("old.test", 7, NOW_MS - 9, False), StreamCursor("new.test", 7, NOW_MS)
    for cursor, written_us in ((then, THEN_US), (now, NOW_US)):
        save_cursor(cursor, written_us)
    assert discrepancies.stream_position() == ("old.test", NOW_MS - 9)
    bring_forward(NOW_US)
    assert discrepancies.stream_position() == ("new.test", NOW_MS)
    assert discrepancies.carries_chain()
    assert bring_forward(NOW_US) == 0
