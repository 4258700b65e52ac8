"""The subscriber against a relay and a real database: what is saved, and with which cursor."""

import pytest

from server.core.errors import LeaseLost
from server.ingest import subscriber, writer
from server.storage import jobs, leases, repos
from server.storage.authors import author_ids, load_identity, save_identity
from server.storage.database import DatabaseError, execute, rows, value, write_transaction
from tests.builders import NOW_US
from tests.ingest.asking import (
    all_rows,
    cursor_seq,
    item_count,
    queued,
    reasons,
    wait_for_all,
)
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db")


def test_what_tracked_people_do_is_saved_with_the_cursor(net, alice, bob, at_rest, reading):
    with reading(net.relay.url):
        post = alice.post("one")
        bob.repost(post)
        bob.post("two", reply_to=post)
        alice.like(post)
        net.account("somebody").post("unheard")
        wait_for_all(net)
    assert item_count() == 3
    assert reasons() == []


def test_a_replay_from_an_old_cursor_changes_nothing(net, alice, bob, at_rest, reading):
    start = cursor_seq(net)
    with reading(net.relay.url):
        post = alice.post("one")
        gone = alice.post("gone")
        alice.delete(gone)
        alice.edit(post, text="changed")
        bob.repost(post)
        wait_for_all(net)
    before = all_rows()
    execute("UPDATE stream_cursors SET seq = ?", (start,))
    with reading(net.relay.url):
        wait_for_all(net)
    assert all_rows() == before


@pytest.mark.parametrize("failures", [1, 2])
def test_a_commit_that_fails_leaves_the_cursor_where_it_was(
    net, alice, at_rest, reading, monkeypatch, failures
):
    start, failed = cursor_seq(net), []
    commit_batch = writer.commit_batch

    def fail_first(*args, **more):
        if len(failed) < failures:
            failed.append(args)
            raise DatabaseError("gone")
        return commit_batch(*args, **more)

    monkeypatch.setattr(writer, "commit_batch", fail_first)
    alice.post("one")
    for _ in range(failures):
        with pytest.raises(DatabaseError), reading(net.relay.url) as running:
            wait_until(lambda running=running: not running.thread.is_alive())
        assert (cursor_seq(net), item_count()) == (start, 0)
    with reading(net.relay.url):
        wait_for_all(net)
    assert item_count() == 1
    assert len(failed) == failures


def test_a_lost_lead_comes_out(net, alice, at_rest, reading):
    execute("UPDATE leases SET epoch = epoch + 1")
    alice.post("one")
    with pytest.raises(LeaseLost), reading(net.relay.url) as running:
        wait_until(lambda: not running.thread.is_alive())
    assert item_count() == 0


def test_what_happened_between_two_connections_is_read_later(net, alice, at_rest, reading):
    with reading(net.relay.url):
        for number in range(5):
            alice.post(str(number))
            net.relay.stream.cut("reset" if number % 2 else "close")
        wait_for_all(net)
        wait_until(lambda: item_count() == 5)
    assert reasons() == []


def test_an_account_hides_and_comes_back_to_be_fetched(net, alice, at_rest, reading):
    def state():
        return rows(
            "SELECT is_active, status FROM repos r JOIN authors a ON a.id = r.author_id"
            " WHERE a.did = ?",
            (alice.did,),
        )[0]

    with reading(net.relay.url):
        alice.deactivate()
        wait_until(lambda: state() == (0, "deactivated"))
        alice.activate()
        wait_until(lambda: state() == (1, None))
        wait_for_all(net)
    assert queued() == {alice.did}


def test_an_identity_event_outdates_what_we_looked_up(net, alice, at_rest, reading):
    save_identity(alice.did, None, "https://pds.test", None, 5)
    with reading(net.relay.url):
        alice.change_handle("other.test")
        wait_for_all(net)
    assert load_identity(alice.did).checked_us == 0


def test_who_is_tracked_while_reading_is_confirmed_and_read(net, alice, reading):
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.connected_us)
        with write_transaction():
            repos.track([author_ids([alice.did])[alice.did]], repos.ITEMS | repos.FOLLOWS, NOW_US)
        version = value("SELECT value FROM counters")
        wait_until(lambda: leases.leader().confirmed_version == version)
        alice.post("one")
        alice.follow(net.create_account("carol"))
        wait_for_all(net)
        wait_until(lambda: (item_count(), value("SELECT count(*) FROM follows")) == (1, 1))
    assert jobs.count() == 2


def test_a_dead_source_is_left_for_the_next(net, alice, at_rest, reading, monkeypatch):
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 1)
    alice.post("one")
    with reading("ws://127.0.0.1:9/xrpc/com.atproto.sync.subscribeRepos", net.relay.url):
        wait_for_all(net)
    assert item_count() == 1
