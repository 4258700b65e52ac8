"""Pages from a real streaming replica: it lags, hangs, dies, cancels, is busy."""

import socket
import threading
import time
from contextlib import closing

import pytest

from server.storage import replica, replicas
from server.storage.batch import Batch
from server.storage.database import close_database, database, rows, value
from server.storage.reader import reader
from server.storage.replica_connection import CANCELLED, LAGGING, SILENT, UNREACHABLE
from tests.builders import did, drop, tid, unfollow
from tests.devnet.ports import free_port
from tests.storage.following_page import COUNT, add_row, of, page
from tests.system.waiting import wait_until

# What a busy machine may add to a bound.
SLACK_SECONDS = 1.0


@pytest.fixture
def mute():
    """A server that accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", free_port()))) as listener:
        yield f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/gapless"


def seconds_of(deed):
    began = time.monotonic()
    deed()
    return time.monotonic() - began


def test_pages_are_read_from_the_replica(stream, reading):
    assert len(reading.read(page)) == 20
    assert reading.read(lambda: value("SELECT pg_is_in_recovery()")) is True
    assert reading.read(page) == page()
    assert reading.places == {"replica": 3}


@pytest.mark.parametrize(
    ("deed", "is_gone"),
    [
        (lambda stream: stream.say("vera", unfollow(tid(1))), lambda found: not of("ann", found)),
        (lambda stream: stream.say("ann", drop(tid(9))), lambda found: len(found) == 19),
        (
            lambda stream: stream.save(Batch(statuses={did("ann"): (False, "deleted")})),
            lambda found: not of("ann", found),
        ),
    ],
    ids=["an unfollowed author", "a deleted post", "an account that went"],
)
def test_what_was_taken_away_does_not_come_back_from_a_replica_that_lags(
    stream, reading, streaming, impatient, deed, is_gone
):
    assert not is_gone(reading.read(page))
    with streaming.replica.paused():
        deed(stream)
        for _ in range(3):
            assert is_gone(reading.read(page))
        # The replica had been asked, did not show it yet, and was then left alone.
        assert reading.places["primary"] == 3
        assert reading.refusals.keys() == {LAGGING}
    reading.settle()
    assert is_gone(reading.read(page))
    assert reading.places == {"replica": 1}


def test_a_page_waits_for_what_the_replica_is_about_to_show(reading, streaming):
    with streaming.replica.paused():
        # Also on a new connection, of which nothing is known yet.
        reading.replicas.close()
        add_row()
        resume = threading.Timer(0.2, streaming.replica.ask, ["SELECT pg_wal_replay_resume()"])
        resume.start()
        assert reading.read(lambda: value(COUNT)) == 1
        resume.join()
    assert reading.places == {"replica": 1}


def test_a_server_that_hangs_delays_one_page_and_is_then_left_alone(reading, streaming, impatient):
    with streaming.replica.frozen():
        for _ in range(5):
            took = seconds_of(lambda: reading.read(lambda: value(COUNT)))
            assert took < replicas.MAX_SECONDS + SLACK_SECONDS
        assert reading.refusals[SILENT] <= 2
        assert reading.places["primary"] == 5
    reading.settle()


@pytest.mark.slow
def test_who_accepts_and_says_nothing_delays_one_page(mute, replicated, make_reading, impatient):
    reading = make_reading(mute)
    assert seconds_of(lambda: reading.read(lambda: value(COUNT))) < 1.5 + SLACK_SECONDS
    assert reading.refusals == {SILENT: 1}
    assert seconds_of(lambda: reading.read(lambda: value(COUNT))) < 0.5
    assert reading.places["primary"] == 2


def test_after_a_rest_one_page_tries_the_replica_and_the_others_do_not_wait(
    mute, replicated, make_reading, monkeypatch
):
    monkeypatch.setattr(replicas, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(replica, "REST_SECONDS", (0.0, 0.0))
    reading = make_reading(mute)
    reading.read(lambda: value(COUNT))
    waits = []

    def read():
        waits.append(seconds_of(lambda: reading.read(lambda: value(COUNT))))
        database.close()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(waits), reading.refusals) == (8, {SILENT: 2})
    assert sum(wait >= 0.5 for wait in waits) == 1


@pytest.mark.parametrize("part", ["/gapless", "/gapless?nonsense=1", "/gapless?x", "%zz@h/x"])
def test_what_is_said_of_a_replica_holds_no_password(
    replicated, make_reading, caplog, monkeypatch, part
):
    monkeypatch.setattr(replica, "REST_SECONDS", (0.0, 0.0))
    url = f"postgresql://u:secret@127.0.0.1:{free_port()}{part}"
    # And each failure gives the place of its connection back.
    reading = make_reading(url, max_connections=1)
    for _ in range(replica.LOGGED_FAILURES):
        reading.read(lambda: value(COUNT))
    (state,) = reading.replicas.look()
    assert state.problem == UNREACHABLE
    assert "not in use" in caplog.text
    assert "secret" not in caplog.text + state.detail + state.name


def test_beside_one_that_is_gone_the_other_is_read(replicated, make_reading):
    gone = f"postgresql://postgres@127.0.0.1:{free_port()}/gapless"
    reading = make_reading(gone, replicated.replica_url)
    reading.settle()
    for _ in range(20):
        reading.read(lambda: value(COUNT))
    assert reading.places == {"replica": 20}


def test_a_replica_that_dies_within_a_page_costs_nothing(stream, standby, make_reading):
    reading = make_reading(standby.url("gapless"))
    reading.settle()
    deaths = []

    def page_with_a_death():
        value(COUNT)
        if reader() is not None:
            deaths.append(standby.kill())
        return page()

    assert reading.read(page_with_a_death) == page()
    assert len(deaths) == 1
    assert reading.places == {"primary": 1}
    standby.come_back()
    reading.settle()
    assert reading.read(page) == page()


def test_a_statement_that_replaying_ends_is_read_from_the_primary(reading, streaming):
    add_row()
    reading.settle()
    streaming.replica.ask("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    streaming.replica.ask("SELECT pg_reload_conf()")
    conflicts = "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = 'gapless'"
    before = streaming.replica.ask(conflicts)

    def slow_count():
        return value(COUNT if reader() is None else f"{COUNT} WHERE pg_sleep(10) IS NOT NULL")

    def vacuum():
        wait_until(
            lambda: streaming.replica.ask(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(10)%'"
                " AND pid <> pg_backend_pid()"
            ),
            5,
            "the statement runs",
        )
        streaming.primary.ask("DELETE FROM odd_rkeys", "gapless")
        streaming.primary.ask("VACUUM odd_rkeys", "gapless")

    vacuuming = threading.Thread(target=vacuum)
    vacuuming.start()
    try:
        reading.read(slow_count)
    finally:
        vacuuming.join()
        streaming.replica.ask("ALTER SYSTEM RESET max_standby_streaming_delay")
        streaming.replica.ask("SELECT pg_reload_conf()")
    assert (reading.places, reading.refusals) == ({"primary": 1}, {CANCELLED: 1})
    # The server counts for a connection when that ends.
    reading.replicas.close()
    wait_until(lambda: streaming.replica.ask(conflicts) > before, 5, "it was a conflict")


@pytest.mark.slow
def test_a_statement_that_takes_too_long_is_read_from_the_primary(reading, impatient):
    def slow():
        return value("SELECT 1" if reader() is None else "SELECT 1 FROM pg_sleep(10)")

    assert seconds_of(lambda: reading.read(slow)) < replicas.MAX_SECONDS + SLACK_SECONDS
    assert (reading.places, reading.refusals) == ({"primary": 1}, {CANCELLED: 1})


def test_there_are_no_more_connections_than_allowed(streaming, replicated, make_reading):
    reading = make_reading(streaming.replica_url, max_connections=4)
    reading.settle()
    answers, most = [], []

    def ask():
        return value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'gapless'"), rows(
            "SELECT 1 FROM pg_sleep(0.01)"
        )

    def read():
        for _ in range(5):
            found = reading.read(lambda: (reader() is not None, *ask()))
            answers.append(found)
            if found[0]:
                most.append(found[1])
        database.close()

    threads = [threading.Thread(target=read) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 160
    # Those that found no connection were given theirs by the primary.
    assert reading.places["replica"] == len(most) > 20
    assert reading.places["primary"] > 0
    assert max(most) == 4


def test_commits_that_do_not_wait_for_the_disk_are_shown_as_well(reading, streaming):
    streaming.primary.ask("ALTER DATABASE gapless SET synchronous_commit = off")
    try:
        close_database()
        for count in range(1, 6):
            add_row()
            assert reading.read(lambda: value(COUNT)) == count
        assert reading.places == {"replica": 5}
    finally:
        streaming.primary.ask("ALTER DATABASE gapless RESET synchronous_commit")
        close_database()
