"""Beside a hole of everybody that takes long to write: who leads waits, whatever they were at."""

import threading

import pytest

from server.storage import departures, discrepancies, jobs, pages, repos, retention
from server.storage.changes import commit_gap
from server.storage.database import execute, value, write_transaction
from server.storage.discrepancies import KnownRepo, MissedCommit
from server.storage.group_commit import Write, commit_group
from tests.builders import HOST, NOW_MS, NOW_US, confirm_all, did, number_of, track
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
    held = threading.Event()

    def hold():
        with write_transaction():
            repos.load_repos([number_of("ben")])
            held.set()
            wait_until(lambda: value(WAITING) > 1)
            # Four times what a statement may take.
            execute("SELECT pg_sleep(0.2)")

    def write_hole():
        assert held.wait(10)
        commit_gap(HOST, "test", 0, 1, lease.epoch, NOW_US)

    def beside():
        wait_until(lambda: value(WAITING) > 0)
        execute("SET statement_timeout = 50")
        work(lease.epoch)

    together(hold, write_hole, beside)
