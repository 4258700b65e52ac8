"""The lead: one has it, its end is noticed, and who lost it writes nothing."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from server.commands import doctor_here
from server.commands.findings import FAIL
from server.core.errors import LeaseLost
from server.storage import database, leases, locks, opening, readings
from server.storage.database import DatabaseError, write_transaction
from server.storage.touched import Listener
from server.web import scrape
from tests.builders import NOW_US

# Takes the lead, says so, and holds it until it is killed.
HOLDER = """
import sys, time
from server.storage import leases
from server.storage.opening import open_database
open_database(sys.argv[1])
lease = leases.acquire("child", 1)
print("none" if lease is None else lease.epoch, flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold(db):
    """Another process that holds the lead; it is gone after the test."""
    children = []

    def start():
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, db], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
        )
        children.append(child)
        return child, child.stdout.readline().strip()

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_lead_is_held_by_one(db):
    first = leases.acquire("a", NOW_US)
    assert first.is_held()
    assert leases.acquire("b", NOW_US) is None
    first.release()
    second = leases.acquire("b", NOW_US)
    assert second.epoch == first.epoch + 1
    assert leases.leader().holder == "b"
    second.release()


def test_a_leader_that_is_paused_inside_a_transaction_keeps_the_lead_from_nobody(
    postgres_url, monkeypatch
):
    monkeypatch.setattr(opening, "IDLE_TRANSACTION_MS", 500)
    opening.open_database(postgres_url)
    first = leases.acquire("a", NOW_US)
    paused, wakes = threading.Event(), threading.Event()
    late = []

    def sleep_in_the_middle():
        try:
            with write_transaction():
                leases.fence(first.epoch)
                paused.set()
                wakes.wait(30)
                database.execute("UPDATE counters SET value = 1")
        except database.DatabaseError as error:
            late.append(error)

    sleeper = threading.Thread(target=sleep_in_the_middle)
    sleeper.start()
    assert paused.wait(10)
    first.release()
    second = leases.acquire("b", NOW_US)
    assert second.epoch == first.epoch + 1
    wakes.set()
    sleeper.join()
    assert len(late) == 1
    assert database.value("SELECT value FROM counters") == 0
    second.release()
    database.close_database()


def test_a_lead_that_cannot_be_written_down_is_kept_from_nobody(db, monkeypatch):
    def fail():
        raise DatabaseError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "touch_everybody", fail)
        with pytest.raises(DatabaseError, match="full"):
            leases.acquire("here", NOW_US)
    assert leases.leader() is None
    lease = leases.acquire("here", NOW_US)
    assert lease is not None
    assert lease.epoch == 1
    lease.release()


def test_releasing_twice_harms_nobody(db):
    lease = leases.acquire("a", NOW_US)
    lease.release()
    lease.release()
    assert not lease.is_held()


def test_a_process_that_is_killed_lets_the_lead_go(db, hold):
    child, epoch = hold()
    assert epoch == "1"
    assert leases.acquire("here", NOW_US) is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    lock = locks.acquire(leases.NAME, wait_s=10)
    assert lock is not None
    lock.release()
    lease = leases.acquire("here", NOW_US)
    assert lease.epoch == 2
    lease.release()


def test_another_process_stands_by_while_we_lead(db, hold):
    lease = leases.acquire("here", NOW_US)
    assert hold()[1] == "none"
    assert lease.is_held()
    lease.release()


def test_a_connection_that_the_server_cuts_loses_the_lead(postgresql):
    lease = leases.acquire("here", NOW_US)
    pid = lease.lock.connection.info.backend_pid
    leases.execute("SELECT pg_terminate_backend(?)", (pid,))
    assert not lease.is_held()
    again = locks.acquire(leases.NAME, wait_s=10)
    assert again is not None
    again.release()
    lease.release()


def test_the_fence_lets_the_leader_pass_and_nobody_else(db, lease):
    with write_transaction():
        leases.fence(lease.epoch)
    for epoch in (lease.epoch - 1, lease.epoch + 1):
        with pytest.raises(LeaseLost), write_transaction():
            leases.fence(epoch)


def test_what_a_deposed_leader_says_of_itself_is_not_written(db, lease):
    leases.confirm(lease.epoch, 7)
    leases.report(lease.epoch, NOW_US + 1, NOW_US)
    before = leases.leader()
    assert (before.confirmed_version, before.connected_us) == (7, NOW_US)
    leases.confirm(lease.epoch - 1, 9)
    leases.report(lease.epoch - 1, NOW_US + 2, None)
    assert leases.leader() == before


def test_a_new_leader_has_confirmed_nothing(db):
    first = leases.acquire("a", NOW_US)
    leases.confirm(first.epoch, 7)
    first.release()
    second = leases.acquire("b", NOW_US)
    assert leases.leader().confirmed_version == -1
    second.release()


def test_without_a_leader_there_is_none_to_tell_of(db):
    assert leases.leader() is None


def test_who_begins_to_lead_tells_everybody_to_forget(db):
    heard = []
    listener = Listener(heard.append)
    listener.look()
    heard.clear()
    leases.acquire("here", NOW_US).release()
    listener.look()
    assert heard == [None]


def test_who_died_while_their_clock_was_ahead_is_not_taken_for_alive_until_then(db):
    leases.acquire("a", NOW_US + 30 * 86_400_000_000).release()
    leases.report(1, NOW_US + 30 * 86_400_000_000, NOW_US)
    assert "ahead" in leases.trouble(NOW_US)
    found = readings.read(NOW_US)
    assert next(doctor_here.stream(found, NOW_US)).verdict == FAIL
    (led,) = [one for one in scrape.gauges(found, NOW_US) if one.name == "gapless_leader"]
    assert [sample.value for sample in led.samples] == [0]
    # Clocks of two machines differ by a little.
    leases.report(1, NOW_US + 5_000_000, NOW_US)
    assert leases.trouble(NOW_US) is None
