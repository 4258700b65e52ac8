"""An account that is believed gone and goes on writing: it is read anew, once."""

import pytest

from server.storage import pages
from server.storage.batch import Batch
from server.storage.database import rows
from server.storage.pages import Snapshot
from tests.builders import (
    Stream,
    did,
    finish,
    job_of,
    make_live,
    post,
    store_snapshot,
    tid,
    track,
    write_alone,
)

STATUS = "SELECT is_active, status FROM repos"
GAPS = "SELECT count(*) FROM gaps"


@pytest.fixture
def gone(db, lease):
    """Alice's stream; the word that she is back was lost."""
    track("alice")
    make_live("alice", epoch=lease.epoch)
    stream = Stream(lease.epoch)
    stream.say("alice", post(tid(1)))
    stream.save(Batch(statuses={did("alice"): (False, "deactivated")}))
    return stream


def read_half_of(stream):
    """Begin to read her repo; the job."""
    job = job_of("alice", stream.epoch)
    assert store_snapshot(job, stream.revs["alice"], stream.epoch) is Snapshot.STORED
    return job


def test_who_writes_while_that_is_settled_is_not_read_anew_each_time(gone):
    """Or a long repo of somebody busy would never be read to its end, and stay hidden."""
    gone.say("alice", post(tid(2)))
    assert rows(STATUS) == [(0, "pds:deactivated")]
    job = read_half_of(gone)
    for number in range(3, 6):
        gone.say("alice", post(tid(number)))
    assert finish(job, 0, gone.epoch)
    assert rows(STATUS) == [(1, None)]
    assert rows(GAPS) == [(1,)]
    assert rows("SELECT count(*) FROM gaps WHERE closed_us IS NULL") == [(0,)]


def test_who_is_called_gone_again_meanwhile_and_writes_is_read_anew(gone):
    gone.say("alice", post(tid(2)))
    job = read_half_of(gone)
    gone.save(Batch(statuses={did("alice"): (False, "takendown")}))
    gone.say("alice", post(tid(3)))
    assert not finish(job, 0, gone.epoch)
    assert rows(STATUS) == [(0, "pds:takendown")]


def test_a_chain_that_breaks_meanwhile_has_the_repo_read_anew(gone):
    gone.say("alice", post(tid(2)))
    job = read_half_of(gone)
    gone.revs["alice"] += 1
    gone.say("alice", post(tid(3)))
    assert not finish(job, 0, gone.epoch)


def test_whom_a_pds_called_gone_since_and_who_writes_is_read_anew(gone):
    gone.say("alice", post(tid(2)))
    read_half_of(gone)
    job = job_of("alice", gone.epoch)
    assert write_alone(pages.finish_inactive, job, (job, "deactivated"), gone.epoch)
    gone.say("alice", post(tid(3)))
    assert rows(GAPS) == [(2,)]
    assert job_of("alice", gone.epoch) is not None
