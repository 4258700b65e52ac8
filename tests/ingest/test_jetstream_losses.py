"""A Jetstream that loses commits in silence, and then a relay without it: nothing stays lost."""

from threading import Event as StopEvent

import pytest

from server.backfill import reconcile
from server.backfill.reconcile import Reconcile
from server.backfill.sources import Sources
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.ingest import merge
from server.storage import discrepancies
from server.storage.cursors import load_cursor
from server.storage.database import execute, rows
from server.storage.repos import CHAINED, RECHAINED
from simnet import Network
from tests.backfill.accounts import fetch, stored, truth
from tests.ingest.asking import item_count, queued, reasons
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db", "quick_change")

POSTS, EVERY = 200, 100


@pytest.fixture
def net():
    with Network(seed=7, relays=2, jetstreams=1) as network:
        yield network


@pytest.fixture
def watching(net, lease, monkeypatch):
    """A reconciliation that needs no rest, and believes a stream that has gone on."""
    monkeypatch.setattr(reconcile, "ROUND_HOURS", 0)
    monkeypatch.setattr(reconcile, "SETTLE_MS", 1)
    fetcher = Fetcher(allow_private_hosts=True, user_agent="Gapless/test")
    sources = Sources(fetcher, Directory(net.plc.url, fetcher), 7, 3650, lease.epoch)
    yield Reconcile(sources, StopEvent())
    fetcher.close()


def read_to_its_end(host, url, reading):
    """Read a source until all that it tells is saved."""
    with reading(url) as running:
        (name,) = running.subscriber.counters
        wait_until(lambda: (at := load_cursor(name)) and at.seq == host.stream.last_seq)


def lose(net, host, *, every=1, times=None):
    where = {"host": host.stream.host, "kind": "#commit"}
    net.faults.arm("stream-drop", times=times, every=every, where=where)


def missing(*authors):
    return sum(len(truth(one)) - len(stored(one)) for one in authors)


def chains():
    return {is_chained for (is_chained,) in rows("SELECT is_chained FROM repos")}


def look_and_fetch(net, relay, reading, watching, *authors):
    """A round of comparing while only the relay is read; then all is as it is in the repos."""
    # As if the Jetstream had been left a while ago.
    execute(
        "UPDATE stream_cursors SET written_us = written_us - ? WHERE has_chain = 0",
        (2 * discrepancies.READ_TOGETHER_US,),
    )
    assert discrepancies.carries_chain()
    assert chains() == {RECHAINED}
    watching.run()
    net.create_account("who comes later")
    read_to_its_end(relay, relay.url, reading)
    watching._settle()
    assert {reason for _, reason in reasons()} == {"other records"}
    for author in authors:
        if author.did in queued():
            fetch(author, watching.sources)
        assert stored(author) == truth(author)
    # What has been compared is compared by its commits from now on.
    assert chains() == {CHAINED}
    assert reasons() == []


@pytest.mark.parametrize("number", [0, 1], ids=["from its own cursor", "from a time"])
def test_what_a_jetstream_lost_is_found_when_a_relay_has_taken_its_place(
    net, alice, bob, at_rest, reading, watching, number
):
    (jetstream,), relay, authors = net.jetstreams, net.relays[number], (alice, bob)
    # Of the beginning of accounts, which has them fetched again when it is told twice.
    relay.stream.forget()
    lose(net, jetstream, every=EVERY)
    for post in range(POSTS // 2):
        alice.post(str(post))
        bob.post(str(post))
    net.faults.disarm()
    assert net.faults.fired["stream-drop"] == POSTS // EVERY
    for author in authors:
        author.post("what comes after is told")
    read_to_its_end(jetstream, jetstream.v1_url, reading)
    assert missing(*authors) == POSTS // EVERY
    for author in authors:
        author.post("and on")
    read_to_its_end(relay, relay.url, reading)
    # The relay may have told them again, but they are older than what we have.
    assert missing(*authors) == POSTS // EVERY
    look_and_fetch(net, relay, reading, watching, *authors)


def test_what_a_relay_and_a_jetstream_beside_it_both_lost_is_found_when_the_relay_is_alone(
    net, alice, bob, at_rest, reading, watching, monkeypatch
):
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0.1)
    (jetstream,), relay = net.jetstreams, net.relay
    with reading(f"{relay.url}+{jetstream.v1_url}") as running:
        wait_until(lambda: all(one.connected_us for one in running.subscriber.counters.values()))
        # Who is first tells without a chain, and what the other tells then breaks none.
        relay.hold()
        lose(net, relay, times=1)
        lose(net, jetstream, times=1)
        alice.post("lost")
        for author in (alice, bob):
            author.post("told")
        wait_until(lambda: item_count() == 2)
        assert relay.release() == 3
    assert net.faults.fired["stream-drop"] == 2
    for author in (alice, bob):
        author.post("and on")
    read_to_its_end(relay, relay.url, reading)
    assert missing(alice, bob) == 1
    look_and_fetch(net, relay, reading, watching, alice, bob)
