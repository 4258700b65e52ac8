"""A change of source: whoever is read next goes on where the last one was, and leaves no hole."""

import threading
from contextlib import contextmanager

import pytest

from server.ingest import compression, subscriber
from server.storage.cursors import load_position
from server.storage.database import value
from simnet import Network
from tests.ingest.asking import age_cursor, item_count, queued, reasons, wait_for_all
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db", "quick_change")


@pytest.fixture
def net():
    with Network(seed=5, relays=2, jetstreams=2) as network:
        yield network


class Outage:
    """A host that cuts everybody off and lets nobody in."""

    def __init__(self, net, host):
        self.net, self.host = net, host
        self.name = host.server.name

    def begin(self):
        self.net.faults.arm("http-503-html", times=None, where={"host": self.name})
        self.host.stream.cut("reset")

    def end(self):
        self.net.faults.disarm("http-503-html")


def holes():
    """But for the #sync with which accounts begin: read twice, it makes its author be fetched."""
    return [(who, reason) for who, reason in reasons() if reason != "sync"]


def is_read(host):
    return host.stream.readers == 1


def urls_of(net, kind):
    second = net.jetstreams[1]
    return {
        "relay": net.relays[1].url,
        "v1": second.v1_url,
        "v2": second.v2_url,
    }[kind], (net.relays[1] if kind == "relay" else second)


@pytest.mark.parametrize("kind", ["relay", "v1", "v2"])
def test_another_source_goes_on_where_the_last_one_was(net, alice, bob, at_rest, reading, kind):
    url, second = urls_of(net, kind)
    outage = Outage(net, net.relay)
    with reading(net.relay.url, url) as running:
        post = alice.post("before")
        wait_for_all(net)
        outage.begin()
        alice.post("during")
        bob.repost(post)
        wait_until(lambda: is_read(second))
        alice.post("after")
        wait_until(lambda: item_count() == 4)
        assert not is_read(net.relay)
    assert holes() == []
    assert running.subscriber.counters[f"127.0.0.1:{net.relay.server.port}"].broken == {"cut": 1}


@pytest.mark.parametrize("kind", ["relay", "v1", "v2"])
def test_a_source_that_does_not_reach_back_opens_a_gap_first(
    net, alice, bob, at_rest, reading, kind
):
    url, second = urls_of(net, kind)
    Outage(net, net.relay).begin()
    alice.post("forgotten")
    alice.post("kept")
    second.stream.forget(keep=1)
    age_cursor(net, 3_600_000)
    with reading(net.relay.url, url):
        wait_until(lambda: item_count() == 1)
    assert len([reason for who, reason in holes() if who is None]) == 1
    assert queued() == {alice.did, bob.did}


@contextmanager
def chatter(net):
    """Something happens all the time, and nothing of it counts."""
    over, somebody = threading.Event(), net.account("somebody")

    def talk():
        while not over.wait(0.02):
            somebody.delete(somebody.post("forget it"))

    talking = threading.Thread(target=talk, name="chatter")
    talking.start()
    try:
        yield
    finally:
        over.set()
        talking.join()


def test_the_preferred_source_gets_its_turn_back(net, alice, at_rest, reading):
    second = net.relays[1]
    outage = Outage(net, net.relay)
    alice.post("first")
    with reading(net.relay.url, second.url) as running:
        wait_for_all(net)
        outage.begin()
        wait_until(lambda: is_read(second))
        with chatter(net):
            alice.post("at the second")
            wait_until(lambda: item_count() == 2)
            outage.end()
            alice.post("between")
            wait_until(lambda: is_read(net.relay) and second.stream.readers == 0)
            alice.post("at home")
            wait_until(lambda: item_count() == 4)
    assert holes() == []
    assert running.subscriber.metrics.source_changes._value.get() >= 2
    assert load_position().host == f"127.0.0.1:{net.relay.server.port}"


@pytest.mark.parametrize("retired", [0, 1])
def test_a_preferred_jetstream_with_a_new_dictionary_gets_its_turn_back(
    net, alice, at_rest, reading, retired
):
    """A server refuses whoever asks for a dictionary that retired while another source was read."""
    first, second = net.jetstreams[0], net.relays[1]
    outage = Outage(net, first)
    with reading(first.v2_url, second.url), chatter(net):
        wait_until(lambda: is_read(first))
        outage.begin()
        wait_until(lambda: is_read(second))
        for _ in range(retired):
            first.retire_dictionary()
        outage.end()
        wait_until(lambda: is_read(first) and second.stream.readers == 0)
        alice.post("at home")
        wait_until(item_count)
    assert net.faults.fired["retired-dictionary"] == retired


def test_likes_that_a_jetstream_left_out_break_no_chain(net, alice, bob, at_rest, reading):
    """Its filter leaves out whole commits; back on a relay the next one continues an unseen one."""
    jetstream, second = net.jetstreams[0], net.relays[1]
    post = alice.post("one")
    with reading(net.relay.url):
        wait_for_all(net)
    with reading(jetstream.v1_url):
        wait_until(lambda: is_read(jetstream))
        alice.like(post)
        bob.like(post)
        alice.post("two")
        wait_until(lambda: item_count() == 2)
        assert load_position().has_chain is False
        second.stream.forget(keep=1)
    bob.like(alice.post("three"))
    with reading(second.url):
        wait_until(lambda: is_read(second))
        bob.post("four")
        wait_until(lambda: item_count() == 4)
        assert holes() == []
        # And from then on a break is a break again.
        net.faults.arm("stream-drop", where={"host": "relay1", "repo": bob.did})
        bob.post("lost")
        bob.post("five")
        wait_until(lambda: holes() == [(bob.did, "chain")])


def test_a_source_that_says_nothing_is_left_for_one_that_speaks(
    net, alice, at_rest, reading, monkeypatch
):
    monkeypatch.setattr(subscriber, "QUIET_SECONDS", 0.3)
    with reading(net.relay.url, net.relays[1].url) as running:
        wait_until(lambda: is_read(net.relay))
        net.relay.stream.stall()
        alice.post("heard elsewhere")
        wait_until(lambda: item_count() == 1)
        counters = running.subscriber.counters[f"127.0.0.1:{net.relay.server.port}"]
        assert counters.broken == {"silent": 1}
    assert net.faults.fired["stream-stall"] == 1
    assert holes() == []


def test_repos_are_confirmed_while_no_source_answers(net, alice, at_rest, reading):
    Outage(net, net.relay).begin()
    with reading(net.relay.url):
        wait_until(
            lambda: (
                value("SELECT confirmed_version FROM leases") == value("SELECT value FROM counters")
            )
        )


@pytest.fixture
def handed_out(net, monkeypatch):
    """The dictionary that a cache before the Jetstream hands out for ever."""
    stale = net.jetstreams[0].dictionary
    monkeypatch.setattr(compression.DownloadedDictionary, "_download", lambda downloaded: stale)


def test_a_jetstream_that_refuses_the_dictionary_it_hands_out_is_read_without(
    net, alice, at_rest, reading, handed_out
):
    first, second = net.jetstreams[0], net.relays[1]
    first.retire_dictionary()
    with reading(first.v2_url) as running:
        wait_until(lambda: is_read(first))
        alice.post("one")
        wait_until(item_count)
    assert [one.broken for one in running.subscriber.counters.values()] == [{"http-400": 1}]
    outage = Outage(net, first)
    outage.begin()
    with reading(first.v2_url, second.url), chatter(net):
        wait_until(lambda: is_read(second))
        outage.end()
        wait_until(lambda: is_read(first) and second.stream.readers == 0)
    assert holes() == []


def test_a_jetstream_that_compresses_with_another_dictionary_is_read_without(
    net, alice, at_rest, reading, tmp_path
):
    jetstream, file = net.jetstreams[0], tmp_path / "dictionary"
    file.write_bytes(jetstream.dictionary)
    jetstream.retire_dictionary()
    with reading(jetstream.v1_url, jetstream_dictionary=str(file)) as running:
        wait_until(lambda: is_read(jetstream))
        alice.post("one")
        wait_until(item_count)
    assert [one.broken for one in running.subscriber.counters.values()] == [{"protocol": 1}]


def test_a_source_that_mixes_in_what_nobody_can_read_gives_way_to_a_good_one(
    net, alice, at_rest, reading, monkeypatch
):
    """Nobody would ever be complete while it is read, however well it tells the rest."""
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 2)
    monkeypatch.setattr(subscriber, "HEALTHY_SECONDS", 0.0)
    monkeypatch.setattr(subscriber, "FIRST_CHECK_SECONDS", 60.0)
    first, second = net.relays

    def is_left():
        first.stream.inject("garbage", stored=False)
        alice.post("good")
        return is_read(second)

    with reading(first.url, second.url):
        wait_until(lambda: is_read(first))
        wait_until(is_left)


def test_a_source_that_mixes_in_what_nobody_can_read_rests_while_one_beside_it_is_read(
    net, alice, at_rest, reading, monkeypatch
):
    monkeypatch.setattr(subscriber, "FIRST_CHECK_SECONDS", 60.0)
    first, second = net.relays
    with reading(f"{first.url}+{second.url}") as running:
        counters = running.subscriber.counters[f"127.0.0.1:{first.server.port}"]
        wait_until(lambda: is_read(first) and is_read(second))

        def is_left():
            first.stream.inject("garbage", stored=False)
            alice.post("good")
            return counters.broken

        wait_until(is_left)
        left = item_count()
        wait_until(lambda: is_left() and item_count() > left + 20)
        assert (counters.broken, is_read(first)) == ({"unreadable": 1}, False)
        # It is better than nothing.
        Outage(net, second).begin()
        wait_until(lambda: is_read(first))
