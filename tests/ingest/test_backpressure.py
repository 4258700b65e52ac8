"""A slow database slows reading; nothing is lost, nothing piles up, and the operator is told."""

import sqlite3
import time
from contextlib import closing, contextmanager

import psycopg2
import pytest

from server.ingest import websocket, writer
from server.storage import stalls
from server.storage.changes import commit_batch
from server.storage.database import is_sqlite, sqlite_path
from tests.ingest.asking import cursor_seq, item_count, reasons
from tests.ingest.conftest import wait_until

POSTS = 200
STANDSTILL_SECONDS = 2.0


@contextmanager
def locked(url):
    """Somebody else writes, and takes their time."""
    if is_sqlite():
        with closing(sqlite3.connect(sqlite_path(), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
    else:
        with closing(psycopg2.connect(url)) as other:
            other.cursor().execute("LOCK TABLE feed_items, repos IN EXCLUSIVE MODE")
            yield
            other.rollback()


@pytest.fixture
def batches(monkeypatch):
    """How many commits were in each batch that was saved. They are small."""
    monkeypatch.setattr(writer, "BATCH_CHANGES", 20)
    sizes = []

    def spy(batch, *args, **named):
        result = commit_batch(batch, *args, **named)
        sizes.append(len(batch.commits))
        return result

    monkeypatch.setattr(writer, "commit_batch", spy)
    return sizes


def test_a_database_that_is_slow_delays_everything_and_loses_nothing(
    db, net, alice, bob, at_rest, reading, batches, monkeypatch
):
    spy = writer.commit_batch

    def slowly(*args, **named):
        time.sleep(0.1)
        return spy(*args, **named)

    monkeypatch.setattr(writer, "commit_batch", slowly)
    with reading(net.relay.url):
        for number in range(POSTS // 2):
            alice.post(str(number))
            bob.post(str(number))
        wait_until(lambda: cursor_seq(net) == net.relay.stream.last_seq, "the cursor's arrival")
    assert (item_count(), reasons()) == (POSTS, [])
    # What is in hand never exceeds a batch, though the relay was ahead by hundreds.
    assert len(batches) >= 10
    assert max(batches) <= 20


def test_a_database_that_stands_still_for_seconds_is_waited_for_on_the_same_connection(
    db, net, alice, bob, at_rest, reading, batches, monkeypatch
):
    """Much longer than the patience with a ping: it is we who did not listen."""
    monkeypatch.setattr(websocket, "PING_IDLE_SECONDS", 0.3)
    monkeypatch.setattr(websocket, "PING_REPLY_SECONDS", 0.3)
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: net.relay.stream.readers == 1)
        until = time.monotonic() + STANDSTILL_SECONDS
        with locked(db):
            for number in range(POSTS // 2):
                alice.post(str(number))
                bob.post(str(number))
            wait_until(lambda: time.monotonic() > until)
            held_back = cursor_seq(net)
        wait_until(lambda: cursor_seq(net) == net.relay.stream.last_seq, "the cursor's arrival")
        assert (counters.broken, counters.connections) == ({}, 1)
    assert held_back < net.relay.stream.last_seq - POSTS // 2
    assert (item_count(), reasons()) == (POSTS, [])
    assert max(batches) <= 20


def test_a_standstill_is_told_while_it_lasts_and_when_it_is_over(
    db, net, alice, at_rest, reading, monkeypatch, caplog
):
    monkeypatch.setattr(stalls, "STALL_SECONDS", 0.5)
    with reading(net.relay.url) as running:
        wait = running.subscriber.wait
        wait_until(lambda: net.relay.stream.readers == 1)
        caplog.clear()
        with locked(db):
            alice.post("held back")
            wait_until(lambda: wait.look() > 0.5, "the wait")
            assert wait.look() > 0.5
            (told,) = (one for one in caplog.messages if "database" in one)
            assert told.startswith("still waiting for the database who=stream")
        wait_until(lambda: "\nwaited for the database who=stream" in "\n".join(caplog.messages))
        wait_until(lambda: cursor_seq(net) == net.relay.stream.last_seq, "the cursor's arrival")
    assert (item_count(), reasons()) == (1, [])
