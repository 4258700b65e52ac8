"""A process leaves a database that is not the one it knew; real servers."""

from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from server.storage.authors import author_ids
from server.storage.database import DatabaseError, close_database, value
from server.storage.migrate import migrate
from server.storage.one_history import OneHistory
from server.storage.opening import open_database
from tests.standby import Server


@pytest.fixture
def left():
    return []


@pytest.fixture
def history(left):
    return OneHistory(lambda: left.append(True))


def connect(history, url):
    return closing(psycopg2.connect(url, connection_factory=history.connect))


def test_connections_to_one_database_are_as_any_other(streaming, history, left):
    for _ in range(3):
        with connect(history, streaming.primary_url) as connection:
            assert connection.get_transaction_status() == TRANSACTION_STATUS_IDLE
            connection.cursor().execute("SELECT count(*) FROM feed_items")
    assert not left


def test_another_database_is_refused_each_time_and_one_leaves_once(streaming, history, left):
    with connect(history, streaming.primary_url):
        for _ in range(3):
            with pytest.raises(psycopg2.OperationalError, match="another history"):
                connect(history, streaming.primary.url("postgres"))
    with connect(history, streaming.primary_url):
        assert left == [True]


def test_a_promoted_standby_is_another_history(streaming, standby, history, left):
    with connect(history, streaming.primary_url):
        pass
    # While it is none, it does not say.
    with connect(history, standby.url("gapless")):
        assert not left
    standby.ask("SELECT pg_promote()")
    with pytest.raises(psycopg2.OperationalError, match="another history"):
        connect(history, standby.url("gapless"))
    assert left == [True]


def test_a_server_that_does_not_tell_is_believed(streaming, history, left):
    told = "EXECUTE ON FUNCTION pg_control_system"
    streaming.primary.ask("CREATE ROLE modest LOGIN IN ROLE pg_read_all_data")
    streaming.primary.ask(f"REVOKE {told} FROM public", "gapless")
    try:
        url = streaming.primary_url.replace("//postgres@", "//modest@")
        with connect(history, url) as connection:
            connection.cursor().execute("SELECT count(*) FROM feed_items")
        assert not left
    finally:
        streaming.primary.ask(f"GRANT {told} TO public", "gapless")
        streaming.primary.ask("DROP ROLE modest")


def test_a_page_is_not_answered_from_another_history(streaming, history, left, monkeypatch):
    with connect(history, streaming.primary.url("postgres")):
        pass
    monkeypatch.setattr("server.storage.opening.OneHistory", lambda leave: history)
    open_database(streaming.primary_url, leave=lambda: None)
    try:
        with pytest.raises(DatabaseError, match="another history"):
            value("SELECT count(*) FROM feed_items")
        assert left == [True]
    finally:
        close_database()


@pytest.fixture
def hasty():
    """A server whose commits are on the disk seconds later, unless a session wants it otherwise."""
    server = Server(synchronous_commit="off", wal_writer_delay="10s")
    try:
        server.start()
        yield server
    finally:
        close_database()
        server.stop()


def test_numbers_that_were_given_out_outlive_a_crash_of_any_server(hasty):
    url = hasty.create_database("gapless")
    open_database(url)
    migrate()
    hasty.ask("CHECKPOINT")
    before, after = ([f"did:plc:{when}{number}" for number in range(40)] for when in "ab")
    given = author_ids(before)
    close_database()
    hasty.kill()
    hasty.come_back()
    open_database(url)
    assert not set(author_ids(after).values()) & set(given.values())
    assert author_ids(before) == given
