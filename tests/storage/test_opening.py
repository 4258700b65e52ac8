"""How long a process that answers requests waits for a database, and what it does then."""

import fcntl
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from feeds import FEEDS
from server.storage import database as database_module
from server.storage import opening, viewers
from server.storage.database import DatabaseError, close_database, value
from server.storage.opening import STATEMENT_MS, open_database, patiently
from server.storage.timeline import timeline_page
from server.web.sightings import TOUCH_SECONDS, Sightings
from tests.builders import NOW_US, Stream, did, make_live, number_of, post, tid, track
from tests.ingest.conftest import wait_until

SHORT_MS = 200
# Any of these would be ten times as long, if nobody ended it.
LONG_SECONDS = 2.0


@pytest.fixture
def hurried(postgresql, monkeypatch):
    """Opened as by a process that answers requests."""
    monkeypatch.setattr(opening, "PAGE_STATEMENT_MS", SHORT_MS)
    open_database(postgresql, for_requests=True)
    yield postgresql
    close_database()


def test_a_statement_that_takes_too_long_is_ended_and_its_connection_goes_on(hurried):
    pid, began = value("SELECT pg_backend_pid()"), time.monotonic()
    with pytest.raises(DatabaseError, match="statement timeout"):
        value("SELECT pg_sleep(20)")
    assert time.monotonic() - began < LONG_SECONDS
    assert value("SELECT pg_backend_pid()") == pid


def test_a_page_that_somebody_locks_is_ended_and_comes_when_the_lock_is_gone(hurried, lease):
    track("alice")
    make_live("alice")
    Stream().say("alice", post(tid(1)))
    alice = number_of("alice")

    def page():
        return timeline_page(alice, FEEDS[0].filter, None, 30, NOW_US).items

    with closing(psycopg2.connect(hurried)) as other:
        other.cursor().execute("LOCK TABLE feed_items IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(DatabaseError, match="statement timeout"):
                page()
        assert time.monotonic() - began < 2 * LONG_SECONDS
        other.rollback()
    assert len(page()) == 1


def test_whoever_is_patient_has_longer_for_as_long_as_that_goes(hurried):
    with patiently():
        assert value("SHOW statement_timeout") == f"{STATEMENT_MS // 1000}s"
        assert value("SELECT 1 FROM pg_sleep(?)", (3 * SHORT_MS / 1000,)) == 1
    assert value("SHOW statement_timeout") == f"{SHORT_MS}ms"
    with pytest.raises(ZeroDivisionError), patiently():
        _ = 1 / 0
    assert value("SHOW statement_timeout") == f"{SHORT_MS}ms"


def test_patience_costs_sqlite_nothing(sqlite):
    with patiently():
        assert value("SELECT 1") == 1


@pytest.fixture
def hurried_sqlite(sqlite, monkeypatch):
    """The file, opened as by a process that answers requests."""
    monkeypatch.setattr(opening, "TURN_SECONDS", SHORT_MS / 1000)
    open_database(sqlite, for_requests=True)
    yield Path(sqlite.removeprefix("sqlite:///"))
    close_database()


@contextmanager
def another_writer(path):
    """Somebody else's turn to write, which does not end by itself."""
    with Path(f"{path}.write-lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_behind_a_writer_who_does_not_end_one_thread_waits_and_the_others_go_on(hurried_sqlite):
    number = Sightings().see(did("vera"), NOW_US).number
    later_us = NOW_US + (TOUCH_SECONDS + 1) * 1_000_000

    def touch():
        try:
            return viewers.touch(number, later_us)
        finally:
            close_database()

    with ThreadPoolExecutor(1) as first:
        with another_writer(hurried_sqlite):
            waiting = first.submit(touch)
            wait_until(database_module._sqlite_writer.locked, "the first one waits")
            began = time.monotonic()
            with pytest.raises(DatabaseError, match="others have been writing"):
                viewers.touch(number, later_us)
            # Known viewers are shown their pages all the same.
            assert Sightings().see(did("vera"), later_us).number == number
            assert time.monotonic() - began < LONG_SECONDS
            assert not waiting.done()
        assert waiting.result(10) is True
    assert viewers.touch(number, later_us + 1)


def test_a_lock_of_somebody_who_does_not_queue_is_not_waited_for_longer(hurried_sqlite):
    number = Sightings().see(did("vera"), NOW_US).number
    with closing(sqlite3.connect(hurried_sqlite, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="locked"):
            viewers.touch(number, NOW_US + 1)
        assert time.monotonic() - began < LONG_SECONDS
        other.execute("ROLLBACK")
    assert viewers.touch(number, NOW_US + 1)


def test_who_works_for_itself_waits_for_its_turn(sqlite, monkeypatch):
    monkeypatch.setattr(opening, "TURN_SECONDS", 0.001)
    open_database(sqlite)
    number = Sightings().see(did("vera"), NOW_US).number

    def touch():
        try:
            return viewers.touch(number, NOW_US + 1)
        finally:
            close_database()

    with ThreadPoolExecutor(2) as pool:
        with another_writer(sqlite.removeprefix("sqlite:///")):
            waiting = [pool.submit(touch) for _ in range(2)]
            wait_until(database_module._sqlite_writer.locked, "the first one waits")
            time.sleep(0.1)
            assert not any(one.done() for one in waiting)
        assert [one.result(10) for one in waiting] == [True, True]
