"""Connections to PostgreSQL: asked whether they stand after a rest, and not for each request."""

import os
import socket
import threading
from contextlib import closing

import psycopg2
import pytest

from server.storage import connection_pool, locks
from server.storage.connection_pool import SILENT_SECONDS, patience
from server.storage.database import DatabaseError, close_database, database, release, value
from server.storage.opening import open_database
from server.storage.prepared import Connection
from tests.system.waiting import wait_until

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


@pytest.fixture
def line(postgresql):
    """One that tells whose it is, and what it was asked."""
    return database.obj.line(f"PREPARE told AS {PID}, $1::bigint", "EXECUTE told (%s)")


def test_a_line_has_a_connection_that_nobody_else_gets(line):
    ((pid, told),) = line.rows([7])
    assert told == 7
    assert {pid} == {found for ((found, _),) in (line.rows([8]) for _ in range(3))}
    assert value(PID) != pid
    release()


def test_a_line_that_broke_is_an_error_once_and_then_opened_anew(line, kill, asked):
    ((pid, _),) = line.rows([1])
    kill(pid)
    with pytest.raises(DatabaseError):
        line.rows([1])
    ((other, told),) = line.rows([2])
    assert (other != pid, told) == (True, 2)
    assert asked == []


def test_what_the_server_says_no_to_is_an_error_and_the_line_goes_on(line):
    ((pid, _),) = line.rows([1])
    with pytest.raises(DatabaseError):
        line.rows(["no number"])
    assert line.rows([2]) == [(pid, 2)]


def test_a_line_to_nowhere_is_an_error_each_time_and_keeps_nothing_open(postgresql, kill):
    lost = database.obj.line("PREPARE lost AS SELECT 1 FROM nowhere", "EXECUTE lost")
    mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    before = value(mine)
    for _ in range(3):
        with pytest.raises(DatabaseError):
            lost.rows([])
    wait_until(lambda: value(mine) == before, 10, lambda: f"open: {value(mine)}")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("off", "on"),
        ("on", "on"),
        ("local", "local"),
        ("remote_write", "remote_write"),
        ("remote_apply", "remote_apply"),
    ],
)
def test_whatever_the_server_is_set_to_commits_wait_for_its_disk(postgres_url, given, used):
    options = f"-c synchronous_commit={given}"
    connection = psycopg2.connect(postgres_url, options=options, connection_factory=Connection)
    connection.autocommit = False
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        connection.rollback()
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == (used,)


def test_also_in_the_pool_and_on_lines(postgresql):
    database.obj.connect_params["options"] += " -c synchronous_commit=off"
    asked = "SELECT current_setting('synchronous_commit')"
    line = database.obj.line(f"PREPARE asked AS {asked}", "EXECUTE asked")
    assert (value(asked), line.rows([])) == ("on", [("on",)])


# The kernel's own words for what a connection was told, in the order of PATIENT.
TOLD = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
PATIENT = (1, 4, 2, 3, 10_000)


def told(connection):
    """How long the kernel lets a connection be silent."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        return tuple(
            sock.getsockopt(
                socket.SOL_SOCKET if name.startswith("SO") else socket.IPPROTO_TCP,
                getattr(socket, name),
            )
            for name in TOLD
        )


needs_linux = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux")


@needs_linux
def test_no_connection_waits_for_long_for_a_server_that_has_vanished(postgresql):
    lock = locks.acquire("silence")
    with closing(database.obj.connect_apart()) as apart:
        assert [told(one) for one in (database.connection(), apart, lock.connection)] == (
            [PATIENT] * 3
        )
    lock.release()


@needs_linux
def test_what_the_url_says_of_silence_counts(postgres_url):
    open_database(f"{postgres_url}?tcp_user_timeout=7000&keepalives_count=9")
    try:
        assert told(database.connection()) == (1, 4, 2, 9, 7_000)
    finally:
        close_database()


def test_a_server_that_never_answers_is_waited_for_as_long_as_was_said():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        assert patience(f"postgresql://{host}/db")["connect_timeout"] == SILENT_SECONDS
        open_database(f"postgresql://{host}/db?connect_timeout=1")
        try:
            with pytest.raises(DatabaseError, match="timeout expired"):
                value("SELECT 1")
        finally:
            close_database()


def test_closing_all_closes_lines_which_can_be_asked_again(line):
    ((pid, _),) = line.rows([1])
    database.obj.close_all()
    ((other, _),) = line.rows([1])
    assert other != pid
