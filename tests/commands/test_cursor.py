"""`cursor`: shows where we are; forgetting it is a hole, written down like any other."""

import pytest

from server.storage import gaps, leases, repos
from server.storage.cursors import StreamCursor, load_cursor, save_cursor
from tests.builders import HOST, NOW_MS, NOW_US, Stream, make_live, post, tid, track


@pytest.fixture
def world(db):
    """An author who is complete, and a place in one stream. Nobody leads."""
    lease = leases.acquire("test", NOW_US)
    track("alice")
    make_live("alice")
    Stream(lease.epoch).say("alice", post(tid(0)))
    lease.release()
    return db


def test_the_place_in_each_source_is_shown(world, gapless):
    (shown,) = gapless(world, "cursor", "show", "--json").json()
    assert (shown["host"], shown["seq"], shown["event_ms"]) == (HOST, 1, NOW_MS)
    text = gapless(world, "cursor", "show").out
    assert text.startswith(f"{HOST}: at 1, of 2026-09-21")


def test_to_forget_it_opens_a_gap_of_everybody(world, gapless):
    done = gapless(world, "cursor", "clear")
    assert done.status == 0, done.err
    assert load_cursor(HOST) is None
    (gap,) = gaps.open_gaps(10)
    assert (gap.did, gap.reason, gap.from_ms) == (None, "cleared by the operator", NOW_MS)
    assert repos.is_anybody_tracked()
    assert gapless(world, "cursor", "show").out == "No source has been read yet.\n"
    again = gapless(world, "cursor", "clear")
    assert (again.status, "none" in again.err) == (2, True)


def test_where_another_source_has_come_to_is_where_reading_goes_on(world, gapless):
    save_cursor(StreamCursor("relay.example", 7, NOW_MS - 60_000), NOW_US)
    done = gapless(world, "cursor", "clear", HOST)
    assert "goes on where relay.example was: 2026-09-21 14:12:20" in done.out
    assert "`cursor clear relay.example`" in done.out
    assert load_cursor(HOST) is None
    done = gapless(world, "cursor", "clear", "relay.example")
    assert "begins at the present" in done.out


def test_nothing_is_forgotten_under_a_process_that_leads(world, gapless):
    lease = leases.acquire("test", NOW_US)
    try:
        done = gapless(world, "cursor", "clear", HOST)
    finally:
        lease.release()
    assert (done.status, done.out, "stop it first" in done.err) == (1, "", True)
    assert load_cursor(HOST) is not None
    assert gaps.open_gaps(10) == []


def test_a_source_that_is_not_there_is_named(world, gapless):
    done = gapless(world, "cursor", "clear", "relay.example")
    assert (done.status, HOST in done.err) == (2, True)
