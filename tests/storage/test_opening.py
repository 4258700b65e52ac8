"""What a connection to PostgreSQL is told: above all, how long a statement may take."""

import time
from contextlib import closing

import psycopg2
import pytest

from feeds import FEEDS
from server.storage.database import DatabaseError, close_database, value
from server.storage.opening import STATEMENT_MS, open_database, patiently
from server.storage.timeline import timeline_page
from tests.builders import NOW_US, Stream, make_live, number_of, post, tid, track

SHORT_MS = 200
# Any of these would be ten times as long, if nobody ended it.
LONG_SECONDS = 2.0


@pytest.fixture
def hurried(postgresql):
    """Opened as by a process whose answers nobody waits for."""
    open_database(postgresql, statement_ms=SHORT_MS)
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
