"""A Jetstream and the subscriber: compressed, and, in version 1, asked for the tracked only."""

import logging
import threading

import pytest

from server.core.syntax import int_to_tid
from server.ingest import compression, dialling, did_filter, start
from server.storage import leases, repos
from server.storage.authors import author_ids
from server.storage.cursors import load_position
from server.storage.database import rows, value, write_transaction
from simnet import Network
from tests.builders import NOW_US
from tests.ingest.asking import item_count, reasons
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db", "prompt")


@pytest.fixture
def net():
    with Network(seed=8, jetstreams=1) as network:
        yield network


@pytest.fixture
def prompt(monkeypatch, brisk, caplog):
    """The filter comes at once, and what it is can be read in the log."""
    caplog.set_level(logging.DEBUG, logger=did_filter.__name__)
    monkeypatch.setattr(did_filter, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(start, "OVERLAP_MS", 0)


@pytest.fixture
def jetstream(net):
    return net.jetstreams[0]


@pytest.fixture
def known(net, jetstream, alice, bob, tracked, reading):
    """A cursor, and alice is tracked; bob and somebody are not."""
    with reading(jetstream.v1_url):
        wait_until(lambda: jetstream.stream.readers == 1)
        # The last word is a commit: version 1 keeps a #sync to itself.
        net.create_account("somebody").post("a beginning")
        wait_until(lambda: (at := load_position()) and at.seq == jetstream.stream.last_seq)
    tracked(alice)


@pytest.fixture
def filters(caplog):
    """How many accounts the filters listed that came into force."""
    return lambda: [
        one.getMessage().partition("accounts=")[2]
        for one in caplog.records
        if one.name == did_filter.__name__
    ]


def track(account):
    """From now on; the version that has to be confirmed before anything of it is listed."""
    with write_transaction():
        repos.track([author_ids([account.did])[account.did]], repos.ITEMS, NOW_US)
    return value("SELECT value FROM counters")


def is_confirmed(version):
    return leases.leader().confirmed_version >= version


def messages(running):
    (counters,) = running.subscriber.counters.values()
    return counters.messages


def rkeys_of(account):
    found = rows(
        "SELECT i.rkey FROM feed_items i JOIN authors a ON a.id = i.author_id WHERE a.did = ?",
        (account.did,),
    )
    return {int_to_tid(rkey) for (rkey,) in found}


def test_strangers_are_not_sent_any_more(net, jetstream, alice, known, reading, filters):
    with reading(jetstream.v1_url, filter_dids=10) as running:
        alice.post("one")
        wait_until(lambda: filters() == ["1"])
        before = messages(running)
        for _ in range(3):
            net.account("somebody").post("unheard")
        alice.post("two")
        wait_until(lambda: item_count() == 2)
        assert messages(running) == before + 1
    assert reasons() == []


@pytest.mark.parametrize("limit", [0, 1])
def test_without_a_limit_or_above_it_everybody_is_sent(
    net, jetstream, alice, bob, known, tracked, reading, filters, limit
):
    tracked(bob)
    with reading(jetstream.v1_url, filter_dids=limit) as running:
        alice.post("one")
        wait_until(lambda: item_count() == 1)
        before = messages(running)
        net.account("somebody").post("passed over")
        wait_until(lambda: messages(running) == before + 1)
    assert filters() == []


def test_nobody_is_confirmed_whom_the_server_may_still_leave_out(
    jetstream, alice, bob, known, reading, filters
):
    with reading(jetstream.v1_url, filter_dids=10) as running:
        alice.post("one")
        wait_until(lambda: filters() == ["1"])
        jetstream.turn_away()
        version = track(bob)
        wait_until(lambda: running.subscriber.tracked.version == version)
        bob.post("in his repo by the time it is listed")
        for number in range(3):
            alice.post(f"and on it goes {number}")
            wait_until(lambda number=number: item_count() == number + 2)
        assert not is_confirmed(version)
        jetstream.turn_back()
        wait_until(lambda: is_confirmed(version))
        told = bob.post("after that")
        wait_until(lambda: rkeys_of(bob) == {told.rkey})


def test_what_is_written_after_the_confirmation_is_told_whoever_writes_meanwhile(
    jetstream, alice, bob, known, reading, filters
):
    posts, over = [], threading.Event()

    def chatter():
        while not over.wait(0.002):
            posts.append(bob.post("x").rkey)

    talking = threading.Thread(target=chatter, name="chatter")
    with reading(jetstream.v1_url, filter_dids=10):
        alice.post("one")
        wait_until(lambda: filters() == ["1"])
        talking.start()
        wait_until(lambda: len(posts) > 20)
        version = track(bob)
        wait_until(lambda: is_confirmed(version))
        # Whatever is in his repo now, a backfill would read.
        listed = len(posts)
        wait_until(lambda: len(posts) > listed + 20)
        over.set()
        talking.join()
        wait_until(lambda: rkeys_of(bob) >= set(posts[listed:]))


def test_in_a_silence_the_filter_is_lifted_and_the_cursor_moves(
    net, jetstream, alice, known, reading, filters, monkeypatch
):
    monkeypatch.setattr(did_filter, "QUIET_SECONDS", 0.2)
    with reading(jetstream.v1_url, filter_dids=10):
        alice.post("one")
        wait_until(lambda: filters()[:2] == ["1", "all"])
        net.account("somebody").post("a sign of life")
        wait_until(lambda: load_position().seq == jetstream.stream.last_seq)
        wait_until(lambda: filters()[:3] == ["1", "all", "1"])


def test_after_a_break_reading_goes_on_without_a_filter_and_misses_nothing(
    jetstream, alice, bob, known, reading, filters
):
    with reading(jetstream.v1_url, filter_dids=10):
        alice.post("one")
        wait_until(lambda: filters() == ["1"])
        assert jetstream.stream.cut("reset") == 1
        version = track(bob)
        bob.post("meanwhile")
        alice.post("two")
        wait_until(lambda: is_confirmed(version))
        wait_until(lambda: item_count() >= 2)
        bob.post("later")
        wait_until(lambda: filters()[-1] == "2")
        wait_until(lambda: item_count() >= 3)
    assert reasons() == []


@pytest.mark.parametrize("limit", [0, 10])
def test_compressed_it_says_the_same(
    net, jetstream, alice, known, reading, filters, tmp_path, monkeypatch, limit
):
    expanded, expand = [], compression.FileDictionary.expand

    def count(self, message):
        expanded.append(message)
        return expand(self, message)

    monkeypatch.setattr(compression.FileDictionary, "expand", count)
    (tmp_path / "dictionary").write_bytes(jetstream.dictionary)
    options = {"jetstream_dictionary": str(tmp_path / "dictionary"), "filter_dids": limit}
    with reading(jetstream.v1_url, **options) as running:
        post = alice.post("one")
        wait_until(lambda: item_count() == 1)
        if limit:
            wait_until(lambda: filters() == ["1"])
        alice.edit(post, text="changed")
        alice.repost(post)
        alice.delete(alice.post("gone"))
        wait_until(lambda: value("SELECT count(*) FROM tombstones") == 1)
        assert item_count() == 2
        assert len(expanded) == messages(running) >= 5
    assert reasons() == []


def test_a_dictionary_that_fails_to_come_after_it_was_given_up_changes_nothing(
    jetstream, alice, known, reading, monkeypatch
):
    asked, late = [], threading.Event()
    download = compression.DownloadedDictionary._download

    def hang(self):
        asked.append(threading.current_thread())
        if len(asked) == 1:
            return download(self)
        late.wait()
        raise OSError("no route to the host")

    monkeypatch.setattr(compression.DownloadedDictionary, "_download", hang)
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.3)
    with reading(jetstream.v2_url) as running:
        (counters,) = running.subscriber.counters.values()
        alice.post("compressed")
        wait_until(lambda: item_count() == 1)
        assert jetstream.stream.cut("reset") == 1
        wait_until(lambda: counters.connections == 2)
        late.set()
        asked[1].join()
        alice.post("as it is")
        wait_until(lambda: item_count() == 2 or counters.bad_messages)
    assert counters.bad_messages == 0
    assert reasons() == []
