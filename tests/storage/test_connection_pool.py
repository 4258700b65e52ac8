"""Connections to PostgreSQL: asked whether they stand after a rest, and not for each request."""

import threading

import psycopg2
import pytest

from server.storage import connection_pool
from server.storage.database import DatabaseError, database, release, value

PID = "SELECT pg_backend_pid()"


@pytest.fixture
def kill(postgresql):
    """Ends a connection from the server's side."""
    admin = psycopg2.connect(postgresql)
    admin.autocommit = True

    def run(pid):
        with admin.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            assert cursor.fetchone() == (True,)

    yield run
    admin.close()


@pytest.fixture
def asked(postgresql, monkeypatch):
    """How often the pool asked the server."""
    asked = []
    ask = database.obj._adapter.is_connection_closed

    def noted(connection):
        asked.append(connection)
        return ask(connection)

    monkeypatch.setattr(database.obj._adapter, "is_connection_closed", noted)
    return asked


def test_one_that_was_in_use_a_moment_ago_is_not_asked(asked):
    pid = value(PID)
    for _ in range(20):
        release()
        assert value(PID) == pid
    assert asked == []


def test_one_that_rested_is_asked_and_replaced_if_it_broke(asked, kill, monkeypatch):
    pid = value(PID)
    release()
    monkeypatch.setattr(connection_pool, "REST_SECONDS", 0.0)
    assert value(PID) == pid
    release()
    kill(pid)
    assert value(PID) != pid
    assert len(asked) == 2


def test_one_that_broke_a_moment_ago_fails_once_and_never_again(asked, kill):
    pid = value(PID)
    release()
    kill(pid)
    with pytest.raises(DatabaseError):
        value(PID)
    release()
    assert value(PID) != pid
    assert asked == []


def test_one_that_comes_back_broken_is_not_handed_out(asked, kill):
    pid = value(PID)
    kill(pid)
    with pytest.raises(DatabaseError):
        value(PID)
    release()
    found = []
    thread = threading.Thread(target=lambda: (found.append(value(PID)), release()))
    thread.start()
    thread.join()
    assert found
    assert found != [pid]
