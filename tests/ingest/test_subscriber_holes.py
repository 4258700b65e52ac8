"""The subscriber and holes in a stream: each is written down, and whom it touches is queued."""

import time

import pytest

from server.ingest import reading as reading_module
from server.storage.cursors import load_cursor
from server.storage.database import execute
from tests.ingest.asking import (
    age_cursor,
    host,
    item_count,
    queued,
    reasons,
    wait_for_all,
)
from tests.ingest.conftest import WAIT_SECONDS, wait_until

pytestmark = pytest.mark.usefixtures("db")


def test_without_a_cursor_everybody_tracked_may_have_a_hole(net, alice, tracked, reading):
    tracked(alice)
    with reading(net.relay.url):
        wait_until(lambda: reasons() == [(None, "no cursor")])
    assert queued() == {alice.did}


def test_a_source_that_is_cut_before_it_spoke_leaves_a_hole_each_time(net, alice, tracked, reading):
    tracked(alice)
    with reading(net.relay.url):
        wait_until(lambda: len(reasons()) == 1)
        net.relay.stream.cut("reset")
        wait_until(lambda: len(reasons()) == 2)
    assert set(reasons()) == {(None, "no cursor")}


def test_a_source_that_is_not_asked_for_the_past_is_believed_from_its_first_event_on(
    net, alice, tracked, reading, monkeypatch
):
    monkeypatch.setattr(reading_module, "STANDING_SECONDS", WAIT_SECONDS)
    tracked(alice)
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.connections == 1 and net.relay.stream.readers == 1)
        assert (reasons(), counters.connected_us) == ([], None)
        alice.post("the first event")
        wait_for_all(net)
        assert counters.connected_us is not None
    assert reasons() == [(None, "no cursor")]


def test_without_a_cursor_and_without_anybody_tracked_there_is_no_hole(net, alice, reading):
    with reading(net.relay.url):
        wait_until(lambda: net.relay.stream.readers == 1)
        alice.post("unheard")
        wait_for_all(net)
    assert reasons() == []


def test_a_cursor_that_a_relay_has_forgotten_opens_a_gap(net, alice, bob, at_rest, reading):
    for number in range(5):
        alice.post(str(number))
    net.relay.stream.forget(keep=2)
    age_cursor(net, 3_600_000)
    with reading(net.relay.url):
        wait_until(lambda: (None, "cursor outdated") in reasons())
        wait_for_all(net)
    assert queued() == {alice.did, bob.did}
    assert item_count() == 2


def test_a_pause_of_the_network_is_no_gap(net, alice, at_rest, reading):
    age_cursor(net, 3_600_000)
    alice.post("after an hour of silence")
    with reading(net.relay.url):
        wait_for_all(net)
    assert reasons() == []


def test_an_event_that_claims_the_far_future_hides_no_later_gap(net, alice, bob, at_rest, reading):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simnet.frames.iso", lambda _: "9999-12-31T23:59:59.999Z")
        net.account("somebody").emit_identity()
    with reading(net.relay.url):
        wait_for_all(net)
    assert load_cursor(host(net)).event_ms <= time.time() * 1000
    assert reasons() == []


def test_an_event_that_claims_the_distant_past_stops_nobody(net, alice, at_rest, reading):
    now_us = net.clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simnet.frames.iso", lambda _: "0001-01-01T00:00:00.000Z")
        alice.post("from the first year", at_us=now_us)
    alice.post("and on it goes")
    with reading(net.relay.url):
        wait_for_all(net)
        wait_until(lambda: item_count() == 2)


def test_numbers_that_start_anew_open_a_gap_and_are_followed(net, alice, bob, at_rest, reading):
    net.relay.stream.renumber(first_seq=5)
    alice.post("a new age")
    execute("UPDATE stream_cursors SET seq = 1000000")
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        # The relay may still count the connection before: what is told to that, is lost here.
        wait_until(lambda: counters.connections == 1)
        bob.post("and on")
        wait_until(lambda: any("numbers restarted" in reason for _, reason in reasons()))
        wait_for_all(net)
        alice.post("and on")
        wait_for_all(net)
    assert queued() == {alice.did, bob.did}
    assert item_count() >= 2


@pytest.mark.parametrize("what", ["garbage", "text", "empty", "fields-missing"])
def test_a_frame_that_cannot_be_read_opens_a_gap_and_reading_goes_on(
    net, alice, bob, at_rest, reading, what
):
    with reading(net.relay.url):
        alice.post("before")
        net.relay.stream.inject(what)
        bob.post("after")
        wait_for_all(net)
        wait_until(lambda: item_count() == 2)
    ((who, reason),) = reasons()
    assert who is None
    assert reason.startswith("undecodable frame: ")
    assert queued() == {alice.did, bob.did}


def test_what_somebody_writes_into_a_handle_is_nobodys_hole(net, alice, bob, at_rest, reading):
    with reading(net.relay.url):
        alice.post("before")
        net.relay.stream.inject("no-utf8")
        bob.post("after")
        wait_for_all(net)
        wait_until(lambda: item_count() == 2)
    assert (reasons(), queued()) == ([], set())


def test_after_a_gap_the_cursor_is_written_again(net, alice, at_rest, reading):
    with reading(net.relay.url):
        alice.post("before")
        wait_for_all(net)
        net.relay.stream.inject("garbage", stored=False)
        wait_until(lambda: reasons() != [])
        wait_for_all(net)


@pytest.mark.parametrize("what", ["unknown-type", "unknown-op"])
def test_frames_of_kinds_to_come_are_no_gap(net, at_rest, reading, what):
    with reading(net.relay.url):
        net.relay.stream.inject(what)
        wait_for_all(net)
    assert reasons() == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("stream-drop", "chain"),
        ("stream-too-big", "tooBig"),
        ("stream-no-blocks", "a block is missing"),
    ],
)
def test_a_commit_that_is_not_whole_is_a_hole_of_its_author(
    net, alice, bob, at_rest, reading, fault, reason
):
    net.faults.arm(fault, where={"repo": alice.did})
    with reading(net.relay.url):
        alice.post("one")
        alice.post("two")
        bob.post("three")
        wait_for_all(net)
    assert net.faults.fired[fault] == 1
    assert reasons() == [(alice.did, reason)]
    assert queued() == {alice.did}
    assert item_count() == 2


def test_a_commit_that_comes_twice_or_without_prev_data_is_no_hole(net, alice, at_rest, reading):
    net.faults.arm("stream-duplicate")
    net.faults.arm("stream-no-chain")
    with reading(net.relay.url):
        alice.post("one")
        alice.post("two")
        wait_for_all(net)
    assert (reasons(), item_count()) == ([], 2)


def test_a_sync_event_is_a_hole_of_its_author(net, alice, at_rest, reading):
    with reading(net.relay.url):
        alice.emit_sync()
        wait_for_all(net)
    assert reasons() == [(alice.did, "sync")]
