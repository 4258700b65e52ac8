"""Two sources read together: what one loses without a word is there, and is reported."""

import logging
from contextlib import contextmanager

import pytest

from server.ingest import comparison, merge, start, subscriber
from server.storage.cursors import load_cursor
from server.storage.database import value
from simnet import Network
from tests.ingest.asking import item_count, reasons
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("quick")

# Some more than hundreds: who lost one is judged when it has told what came after.
POSTS = 440


@pytest.fixture
def net():
    with Network(seed=6, relays=2, jetstreams=2) as network:
        yield network


@pytest.fixture
def quick(monkeypatch, brisk):
    """Who lost what is judged soon, but later than a busy machine is late."""
    monkeypatch.setattr(comparison, "JUDGE_SECONDS", 2.0)
    monkeypatch.setattr(comparison, "PAST_MS", 0)
    monkeypatch.setattr(comparison, "REPORT_SECONDS", 0.4)
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0.3)
    monkeypatch.setattr(merge, "CLOCK_SKEW_MS", 0)
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(start, "OVERLAP_MS", 0)


def pair(net, kinds):
    relay, second = net.relays
    one, two = net.jetstreams
    return {
        "relays": [(relay, relay.url), (second, second.url)],
        "v1": [(one, one.v1_url), (two, two.v1_url)],
        "v2": [(one, one.v2_url), (two, two.v2_url)],
        "relay and v2": [(relay, relay.url), (one, one.v2_url)],
    }[kinds]


@contextmanager
def read_together(net, tracked, reading, urls, *authors):
    """Two sources that have cursors, and authors who are live; then both are read."""
    with reading(urls) as running:
        counters = running.subscriber.counters
        wait_until(lambda: [one.connections for one in counters.values()] == [1, 1])
        net.create_account("somebody")
        wait_until(lambda: value("SELECT count(*) FROM stream_cursors") == 2)
    tracked(*authors)
    with reading(urls) as running:
        counters = running.subscriber.counters
        wait_until(lambda: all(one.connected_us for one in counters.values()))
        yield running
    assert {who for who, _ in reasons()} <= {author.did for author in authors}


def counters_of(running, host):
    """Those of the one source that is at this host."""
    counters = running.subscriber.counters
    (name,) = [name for name in counters if name.startswith(f"127.0.0.1:{host.server.port}")]
    return name, counters[name]


@pytest.mark.parametrize("kinds", ["relays", "v1", "v2", "relay and v2"])
def test_what_one_source_loses_in_silence_is_brought_by_the_other_and_reported(
    sqlite, net, alice, bob, tracked, reading, kinds, caplog
):
    caplog.set_level(logging.WARNING, logger=comparison.__name__)
    (first, first_url), (second, second_url) = pair(net, kinds)
    urls = f"{first_url}+{second_url}"
    with read_together(net, tracked, reading, urls, alice, bob) as running:
        where = {"host": second.stream.host, "kind": "#commit"}
        net.faults.arm("stream-drop", times=None, every=100, where=where)
        for number in range(POSTS // 2):
            alice.post(str(number))
            bob.post(str(number))
        wait_until(lambda: item_count() == POSTS)
        name, lossy = counters_of(running, second)
        _, whole = counters_of(running, first)
        wait_until(lambda: lossy.missing == POSTS // 100)
        wait_until(lambda: whole.told == POSTS)
        assert whole.missing == 0
        labels = {"source": name, "outcome": "missing"}
        of = running.subscriber.metrics.registry.get_sample_value
        assert of("gapless_hedged_events_total", labels) == POSTS // 100
        assert of("gapless_hedged_events_total", labels | {"outcome": "late"}) > 0
        warned = f"source loses events source={name} "
        wait_until(lambda: any(warned in one.getMessage() for one in caplog.records))
    assert net.faults.fired["stream-drop"] == POSTS // 100
    assert "chain" not in {reason for _, reason in reasons()}


def test_both_may_lose_if_it_is_not_the_same(db, net, alice, tracked, reading):
    first, second = net.relays
    urls = f"{first.url}+{second.url}"
    with read_together(net, tracked, reading, urls, alice) as running:
        for every, host in ((7, "relay"), (11, "relay1")):
            where = {"host": host, "kind": "#commit"}
            net.faults.arm("stream-drop", times=None, every=every, where=where)
        for number in range(76):
            alice.post(str(number))
        net.faults.disarm()
        for number in range(20):
            alice.post(str(number))
        wait_until(lambda: item_count() == 96)
        counters = running.subscriber.counters.values()
        wait_until(lambda: {one.missing for one in counters} == {76 // 7, 76 // 11})
    assert "chain" not in {reason for _, reason in reasons()}


def test_what_the_one_in_front_lost_is_waited_for(
    sqlite, net, alice, tracked, reading, monkeypatch
):
    first, second = net.relays
    release, batches = merge.Merge.release, []
    monkeypatch.setattr(
        merge.Merge, "release", lambda *args: (batches.append(args), release(*args))
    )
    urls = f"{first.url}+{second.url}"
    with read_together(net, tracked, reading, urls, alice) as running:
        (counters, _) = running.subscriber.counters.values()
        messages = counters.messages
        second.hold()
        net.faults.arm("stream-drop", where={"host": "relay", "kind": "#commit"})
        alice.post("lost by the first")
        alice.post("told by the first")
        wait_until(lambda: counters.messages > messages)
        # Some batches go by in which it could have been taken for lost.
        before = len(batches)
        wait_until(lambda: len(batches) > before + 3)
        assert item_count() == 0
        assert second.release() == 2
        wait_until(lambda: item_count() == 2)
    assert reasons() == []


def test_what_both_lose_is_a_broken_chain(sqlite, net, alice, tracked, reading, monkeypatch):
    monkeypatch.setattr(merge, "HOLD_SECONDS", 0.2)
    first, second = net.relays
    urls = f"{first.url}+{second.url}"
    with read_together(net, tracked, reading, urls, alice):
        for host in ("relay", "relay1"):
            net.faults.arm("stream-drop", where={"host": host, "kind": "#commit"})
        alice.post("lost")
        alice.post("kept")
        wait_until(lambda: (alice.did, "chain") in reasons())
    assert item_count() == 1


def test_each_source_has_its_cursor_and_one_that_was_away_goes_on_at_its_own(
    db, net, alice, tracked, reading
):
    first, second = net.relays
    urls = f"{first.url}+{second.url}"

    def seqs():
        stored = [load_cursor(f"127.0.0.1:{one.server.port}") for one in net.relays]
        return [one and one.seq for one in stored]

    with read_together(net, tracked, reading, urls, alice):
        alice.post("one")
        wait_until(lambda: seqs() == [first.stream.last_seq, second.stream.last_seq])
        net.faults.arm("http-503-html", times=None, where={"host": "relay1"})
        second.stream.cut("reset")
        alice.post("two")
        wait_until(lambda: item_count() == 2)
        net.faults.disarm()
        wait_until(lambda: seqs() == [first.stream.last_seq, second.stream.last_seq])


def test_without_cursors_there_is_one_hole_until_nobody_is_told_any_more(
    db, net, alice, tracked, reading
):
    first, second = net.relays
    tracked(alice)
    with reading(f"{first.url}+{second.url}") as running:
        counters = running.subscriber.counters.values()
        wait_until(lambda: all(one.connected_us for one in counters))
        first.stream.cut("reset")
        wait_until(lambda: [one.connections for one in counters] == [2, 1])
        wait_until(lambda: all(one.connected_us for one in counters))
        assert reasons() == [(None, "no cursor")]
        net.faults.arm("http-503-html", times=None)
        first.stream.cut("reset")
        second.stream.cut("reset")
        wait_until(lambda: not any(one.connected_us for one in counters))
        net.faults.disarm()
        wait_until(lambda: all(one.connected_us for one in counters))
    assert reasons() == [(None, "no cursor")] * 2


def test_while_one_of_them_stands_there_is_no_change_of_source(
    sqlite, net, alice, tracked, reading, monkeypatch
):
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 2)
    first, second = net.relays
    other = net.jetstreams[0]
    net.faults.arm("http-503-html", times=None, where={"host": "relay1"})
    with reading(f"{first.url}+{second.url}", other.v1_url) as running:
        name = f"127.0.0.1:{second.server.port}"
        wait_until(lambda: first.stream.readers == 1)
        wait_until(lambda: running.subscriber.counters[name].failures_in_a_row > 5)
        assert first.stream.readers == 1
        assert other.stream.readers == 0
        names = [f"127.0.0.1:{one.server.port}" for one in (first, second)]
        connected = running.subscriber.metrics.connected
        assert [connected.labels(one)._value.get() for one in names] == [1, 0]
        net.faults.arm("http-503-html", times=None, where={"host": "relay"})
        first.stream.cut("reset")
        wait_until(lambda: other.stream.readers == 1)
        assert [connected.labels(one)._value.get() for one in names] == [0, 0]


def test_who_failed_at_first_and_is_read_now_is_not_left_for_the_one_beside_it(
    sqlite, net, alice, at_rest, reading, monkeypatch
):
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 2)
    monkeypatch.setattr(subscriber, "FIRST_CHECK_SECONDS", 1000.0)
    first, second = net.relays
    other = net.jetstreams[0]
    net.faults.arm("http-503-html", times=None, where={"host": "relay"})
    with reading(f"{first.url}+{second.url}", other.v1_url) as running:
        of_first, of_second, _ = running.subscriber.counters.values()
        wait_until(lambda: of_first.failures_in_a_row > 2 and of_second.connected_us)
        net.faults.disarm()
        wait_until(lambda: of_first.connected_us)
        net.faults.arm("http-503-html", times=None, where={"host": "relay1"})
        second.stream.cut("reset")
        wait_until(lambda: of_second.failures_in_a_row > 5)
        assert (first.stream.readers, other.stream.readers) == (1, 0)
