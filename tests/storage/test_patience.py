"""Beside what takes long to write: who leads waits, whatever they were at."""

import threading

import pytest

from server.storage import (
    departures,
    discrepancies,
    follow_backs,
    jobs,
    pages,
    repos,
    retention,
    viewers,
)
from server.storage.changes import commit_gap
from server.storage.database import execute, rows, value, write_transaction
from server.storage.discrepancies import KnownRepo, MissedCommit
from server.storage.forget import forget
from server.storage.group_commit import Write, commit_group
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    confirm_all,
    did,
    number_of,
    post,
    tid,
    track,
)
from tests.ingest.conftest import wait_until

# Who waits for a lock.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def fetch(epoch):
    (job,) = [job for job in jobs.due(NOW_US, 9, ()) if job.did == did("ann")]
    commit_group([Write(pages.mark_partial, job, job.author_id)], epoch, NOW_US)


def compare(epoch):
    known = KnownRepo(number_of("ann"), "", None, 1, 1, 1, None, 1, repos.RECHAINED, 0)
    discrepancies.vouch(known, epoch)
    discrepancies.resync(known, MissedCommit(9), None, 0, epoch, NOW_US)


BESIDE = {
    "the backfill": fetch,
    "trimming": lambda _: retention.trim(number_of("ann"), NOW_MS),
    "a viewer who goes": lambda epoch: departures.part_with_viewer(
        number_of("ann"), NOW_US, epoch, NOW_US
    ),
    "an author who goes": lambda epoch: departures.depart(number_of("ann"), epoch, NOW_US),
    "an account that is gone": lambda epoch: departures.purge(number_of("ann"), epoch),
    "a word on an account": lambda epoch: departures.call(number_of("ann"), "x", "y", epoch),
    "comparing": compare,
}


@pytest.mark.parametrize("work", BESIDE.values(), ids=BESIDE)
def test_whoever_leads_waits_for_a_hole_of_everybody_however_long_that_takes(
    postgresql, lease, together, work
):
    """Nobody's failure may end the lead meanwhile: the hole would have to be written anew."""
    track("ann", "ben")
    confirm_all(lease.epoch)
    write_beside(lambda: repos.load_repos([number_of("ben")]), work, lease.epoch, together)


@pytest.mark.parametrize(
    "work",
    [
        lambda epoch: follow_backs.save(number_of("vera"), {number_of("ann"): 7}, NOW_US),
        lambda epoch: follow_backs.expire(2 * NOW_US),
    ],
    ids=["a look-up", "forgetting"],
)
def test_who_looks_mutuals_up_waits_for_it_as_well(postgresql, lease, together, work):
    vera = viewers.welcome(did("vera"), NOW_US)
    follow_backs.save(vera, {number_of("ann"): None, number_of("ben"): None}, NOW_US)
    (ben,) = rows("SELECT ctid::text FROM follow_backs WHERE author_id = ?", (number_of("ben"),))
    lock = "SELECT 1 FROM follow_backs WHERE ctid = ?::tid FOR UPDATE"
    write_beside(lambda: execute(lock, ben), work, lease.epoch, together)


def test_the_stream_waits_for_a_page_that_takes_much_away(postgresql, lease, together):
    track("ann")
    held = threading.Event()

    def take_away():
        with write_transaction():
            repos.load_repos([number_of("ann")])
            held.set()
            wait_until(lambda: value(WAITING) > 0)
            execute("SELECT pg_sleep(0.2)")

    def read():
        assert held.wait(10)
        execute("SET statement_timeout = 50")
        Stream(lease.epoch).say("ann", post(tid(1)))

    together(take_away, read)
    assert value("SELECT count(*) FROM feed_items") == 1


def test_who_forgets_somebody_waits_for_what_takes_long(postgresql, together):
    viewers.welcome(did("vera"), NOW_US)
    held = threading.Event()

    def hold():
        with write_transaction():
            repos.load_repos([number_of("vera")])
            held.set()
            wait_until(lambda: value(WAITING) > 0)
            execute("SELECT pg_sleep(0.2)")

    def delete():
        assert held.wait(10)
        execute("SET statement_timeout = 50")
        forget(did("vera"))

    together(hold, delete)
    assert value("SELECT count(*) FROM viewers") == 0


def write_beside(take, work, epoch, together):
    """The hole is held up by a lock that somebody takes, and the work by the hole."""
    held = threading.Event()

    def hold():
        with write_transaction():
            take()
            held.set()
            wait_until(lambda: value(WAITING) > 1)
            # Four times what a statement may take.
            execute("SELECT pg_sleep(0.2)")

    def write_hole():
        assert held.wait(10)
        commit_gap(HOST, "test", 0, 1, epoch, NOW_US)

    def beside():
        wait_until(lambda: value(WAITING) > 0)
        execute("SET statement_timeout = 50")
        work(epoch)

    together(hold, write_hole, beside)
