"""Letting go: of viewers who stay away and of authors whom nobody follows, and of nobody else."""

import pytest

from server.core.feed import TimelineFilter
from server.core.syntax import FOLLOW
from server.ingest.tracked import TrackedSet
from server.storage import (
    departures,
    follow_backs,
    gaps,
    jobs,
    outside_posts,
    read_positions,
    repos,
    retention,
    viewers,
)
from server.storage.batch import Batch
from server.storage.changes import commit_gap
from server.storage.database import execute, rows, value
from server.storage.page_rows import Page
from server.storage.timeline import timeline_page
from server.web.sightings import TOUCH_SECONDS, Sightings
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    commit_page,
    did,
    drop,
    follow,
    job_of,
    make_live,
    number_of,
    post,
    store_snapshot,
    tid,
    track,
    unfollow,
)
from tests.storage.needed import rows_of, state_of

DAY_US = departures.LONELY_US


@pytest.fixture
def stream(db, lease):
    return Stream(lease.epoch)


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(departures, "SLICE_ROWS", 2)


def welcome(name, epoch, now_us=NOW_US):
    viewers.welcome(did(name), now_us)
    make_live(name, epoch=epoch)


def depart_all(epoch, now_us):
    """Everything that is due; how many slices it took."""
    departures.note_lonely(0, 999, now_us)
    slices = 0
    for number in departures.due(now_us, 999):
        while departures.depart(number, epoch, now_us):
            slices += 1
    return slices


def test_who_stays_away_is_let_go_with_all_whom_nobody_else_follows(stream, small_slices):
    epoch = stream.epoch
    for name in ("vera", "will"):
        welcome(name, epoch)
    stream.say("vera", *(follow(tid(n), f"friend{n}") for n in range(5)))
    stream.say("will", follow(tid(1), "friend1"))
    make_live(*(f"friend{n}" for n in range(5)), epoch=epoch)
    for name in ("friend0", "friend1", "vera"):
        stream.say(name, *(post(tid(n), NOW_MS - n) for n in range(5)))
        stream.say(name, drop(tid(0)))
    viewers.touch(number_of("will"), NOW_US + 10)
    follow_backs.save(number_of("vera"), {number_of("friend0"): 7}, NOW_US)
    read_positions.advance(number_of("vera"), "catch-up", 5, NOW_US)
    assert viewers.gone_since(NOW_US + 5, 9) == [number_of("vera")]
    assert departures.part_with_viewer(number_of("vera"), NOW_US + 5, epoch, NOW_US)
    assert viewers.find(did("vera")) is None
    assert value("SELECT count(*) FROM follow_backs") == 0
    assert value("SELECT count(*) FROM read_positions") == 0
    assert depart_all(epoch, NOW_US) == 0
    depart_all(epoch, NOW_US + DAY_US)
    assert state_of("vera") == (repos.LET_GO, repos.ITEMS)
    assert rows_of("vera") == 0
    # Those whom vera followed are noticed now, and stay for a day.
    departures.note_lonely(0, 99, NOW_US + DAY_US)
    assert state_of("friend0")[0] == repos.LIVE
    depart_all(epoch, NOW_US + 2 * DAY_US)
    assert [state_of(f"friend{n}")[0] for n in range(5)] == [0, repos.LIVE, 0, 0, 0]
    assert (rows_of("friend0"), rows_of("friend1")) == (0, 5)
    assert state_of("will") == (repos.LIVE, 3)
    assert value("SELECT count(*) FROM departures") == 0
    assert value("SELECT count(*) FROM backfill_jobs") == 0


def test_who_was_here_again_or_is_being_fetched_is_no_stranger(stream):
    welcome("vera", stream.epoch)
    number = number_of("vera")
    assert not departures.part_with_viewer(number, NOW_US, stream.epoch, NOW_US)
    viewers.welcome(did("new"), NOW_US - 99)
    assert not departures.part_with_viewer(number_of("new"), NOW_US, stream.epoch, NOW_US)
    job = job_of("new", stream.epoch)
    for _ in range(departures.FAILED_ATTEMPTS):
        jobs.fail(job, "gone", NOW_US)
    assert departures.part_with_viewer(number_of("new"), NOW_US, stream.epoch, NOW_US)
    # A turn of the job that was under way writes no follows any more.
    page = Page(FOLLOW, [follow(tid(1), "ann")], {tid(1)}, None, None)
    assert not commit_page(job, page, stream.epoch)
    assert job_of("new", stream.epoch).wants == repos.ITEMS


def test_a_gap_of_everybody_waits_for_a_viewer_who_was_let_go_unfetched(stream):
    welcome("vera", stream.epoch)
    commit_gap(HOST, "test", 0, 1, stream.epoch, NOW_US)
    for _ in range(departures.FAILED_ATTEMPTS):
        jobs.fail(job_of("vera", stream.epoch), "gone", NOW_US)
    assert departures.part_with_viewer(number_of("vera"), NOW_US + 1, stream.epoch, NOW_US)
    assert gaps.close_healed(NOW_US) == 0
    depart_all(stream.epoch, NOW_US + DAY_US)
    assert state_of("vera")[0] == repos.LET_GO
    assert gaps.close_healed(NOW_US) == 1


def test_an_author_is_let_go_a_day_after_the_last_follow_went(stream):
    welcome("vera", stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "ann"))
    make_live("ann", epoch=stream.epoch)
    stream.say("vera", unfollow(tid(1)))
    assert depart_all(stream.epoch, NOW_US + DAY_US) == 0
    assert value("SELECT count(*) FROM departures") == 0
    stream.say("vera", unfollow(tid(2)))
    assert depart_all(stream.epoch, NOW_US) == 0
    assert depart_all(stream.epoch, NOW_US + DAY_US - 1) == 0
    stream.say("vera", follow(tid(3), "ann"))
    assert depart_all(stream.epoch, NOW_US + DAY_US) == 0
    stream.say("vera", unfollow(tid(3)))
    assert depart_all(stream.epoch, NOW_US + DAY_US) == 0
    assert state_of("ann")[0] == repos.LIVE
    depart_all(stream.epoch, NOW_US + 2 * DAY_US)
    assert state_of("ann")[0] == repos.LET_GO


def test_who_is_being_fetched_is_not_let_go_unless_that_keeps_failing(stream):
    track("ann", "ben")
    for _ in range(departures.FAILED_ATTEMPTS):
        jobs.fail(job_of("ben", stream.epoch), "gone", NOW_US)
    depart_all(stream.epoch, NOW_US)
    depart_all(stream.epoch, NOW_US + DAY_US)
    assert (state_of("ann")[0], state_of("ben")[0]) == (repos.PENDING, repos.LET_GO)
    assert job_of("ben", stream.epoch) is None


def test_who_is_followed_again_while_rows_go_is_fetched_anew(stream, small_slices):
    welcome("vera", stream.epoch)
    track("ann")
    make_live("ann", epoch=stream.epoch)
    stream.say("ann", *(post(tid(n), NOW_MS - n) for n in range(9)))
    departures.note_lonely(0, 99, NOW_US)
    number, later_us = number_of("ann"), NOW_US + DAY_US
    reader = TrackedSet()
    reader.refresh()
    for _ in range(2):
        assert departures.depart(number, stream.epoch, later_us)
    assert (state_of("ann")[0], rows_of("ann")) == (repos.LET_GO, 7)
    reader.refresh()
    assert did("ann") not in reader.wants
    stream.say("vera", follow(tid(1), "ann"))
    assert not departures.depart(number, stream.epoch, later_us)
    assert (state_of("ann")[0], rows_of("ann")) == (repos.PENDING, 7)
    job = job_of("ann", stream.epoch)
    assert (job.snapshot_rev, job.horizon_rkey) == (0, 2**63 - 1)
    confirmed, reader_knew = list(repos.tracked_since(reader.version)), reader.version
    assert confirmed[-1].tracked_version > reader_knew
    reader.refresh()
    assert reader.wants[did("ann")] == repos.ITEMS


def test_a_viewer_who_comes_back_is_new_and_keeps_what_is_listed(stream, small_slices):
    welcome("vera", stream.epoch)
    stream.say("vera", *(follow(tid(n), f"friend{n}") for n in range(5)))
    number, later_us = number_of("vera"), NOW_US + DAY_US
    assert departures.part_with_viewer(number, NOW_US + 1, stream.epoch, NOW_US)
    assert departures.depart(number, stream.epoch, later_us)
    assert value("SELECT count(*) FROM follows") == 3
    sightings = Sightings()
    sighting = sightings.see(did("vera"), later_us)
    assert sighting.first_us == later_us
    assert viewers.find(did("vera")).first_us == later_us
    assert not departures.depart(number, stream.epoch, later_us)
    job = job_of("vera", stream.epoch)
    assert job.wants == repos.ITEMS | repos.FOLLOWS
    listed = [follow(tid(n), f"friend{n}") for n in (1, 4)]
    page = Page(FOLLOW, listed, {one.rkey for one in listed}, None, None)
    store_snapshot(job, 99, stream.epoch)
    assert commit_page(job, page, stream.epoch, later_us)
    assert value("SELECT count(*) FROM follows") == 2


def test_a_process_that_remembers_a_viewer_notices_that_they_were_let_go(stream):
    sightings = Sightings()
    sightings.see(did("vera"), NOW_US)
    make_live("vera", epoch=stream.epoch)
    assert departures.part_with_viewer(number_of("vera"), NOW_US + 1, stream.epoch, NOW_US)
    later_us = NOW_US + TOUCH_SECONDS * 1_000_000 + 1
    assert sightings.see(did("vera"), later_us).first_us == later_us
    assert state_of("vera") == (repos.PENDING, 3)
    assert Sightings().see(did("vera"), later_us + 5).first_us == later_us


def test_what_a_reader_that_is_behind_tells_of_somebody_let_go_is_nothing(stream):
    track("ann")
    make_live("ann", epoch=stream.epoch)
    stream.say("ann", post(tid(0)))
    depart_all(stream.epoch, NOW_US)
    depart_all(stream.epoch, NOW_US + DAY_US)
    stream.say("ann", post(tid(1)), drop(tid(0)), hole="tooBig")
    stream.save(Batch(resets={did("ann")}, statuses={did("ann"): (True, None)}))
    assert (state_of("ann")[0], rows_of("ann")) == (repos.LET_GO, 0)
    assert gaps.open_gaps(9) == []
    assert value("SELECT count(*) FROM backfill_jobs") == 0


def test_a_status_from_before_is_doubted_when_somebody_follows_again(stream):
    track("ann")
    make_live("ann", epoch=stream.epoch)
    stream.save(Batch(statuses={did("ann"): (False, "deactivated")}))
    depart_all(stream.epoch, NOW_US)
    depart_all(stream.epoch, NOW_US + DAY_US)
    track("ann")
    make_live("ann", epoch=stream.epoch)
    assert rows("SELECT is_active, status FROM repos") == [(1, None)]


def test_replies_that_hang_on_somebody_let_go_stand_as_before(stream):
    welcome("vera", stream.epoch)
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "dan"), follow(tid(3), "ben"))
    make_live("ann", "ben", "dan", epoch=stream.epoch)
    # dan is followed; ben answers dan; ann answers ben.
    stream.say("dan", post(tid(1), NOW_MS - 3))
    stream.say("ben", post(tid(2), NOW_MS - 2, parent=("dan", tid(1))))
    stream.say("ann", post(tid(3), NOW_MS - 1, parent=("ben", tid(2)), root=("eve", tid(9))))

    def shown():
        page = timeline_page(
            number_of("vera"), TimelineFilter(replies="following"), None, 9, NOW_US
        )
        return [item.post_uri[-13:] for item in page.items]

    stream.say("vera", unfollow(tid(3)))
    assert shown() == [tid(3), tid(1)]
    depart_all(stream.epoch, NOW_US)
    depart_all(stream.epoch, NOW_US + DAY_US)
    assert state_of("ben")[0] == repos.LET_GO
    assert rows_of("ben") == 0
    assert shown() == [tid(3), tid(1)]
    outside_posts.expire(2**62)
    assert shown() == [tid(1)]


def test_a_deposed_leader_lets_nobody_go(stream):
    welcome("vera", stream.epoch)
    track("ann")
    make_live("ann", epoch=stream.epoch)
    departures.note_lonely(0, 9, NOW_US)
    execute("UPDATE leases SET epoch = epoch + 1")
    for write in (
        lambda: departures.part_with_viewer(number_of("vera"), NOW_US + 1, stream.epoch, NOW_US),
        lambda: departures.depart(number_of("ann"), stream.epoch, NOW_US + DAY_US),
    ):
        with pytest.raises(Exception, match="leads now"):
            write()


def test_old_items_of_one_author_go_in_slices(stream, monkeypatch):
    monkeypatch.setattr(retention, "SLICE_ITEMS", 7)
    track("alice")
    make_live("alice", epoch=stream.epoch)
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    assert retention.trim(number_of("alice"), NOW_MS) == 50
    assert value("SELECT max(horizon_rkey) FROM repos") == min(
        row[0] for row in rows("SELECT rkey FROM feed_items")
    ) - (1000 << 10)
