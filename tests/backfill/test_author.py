"""The backfill of one repo against a PDS with real sockets, honest and otherwise."""

from threading import Event as StopEvent

import pytest

from server.backfill import pds
from server.backfill import sources as sources_of_jobs
from server.backfill.author import Backfill
from server.core.errors import FetchFailed
from server.core.events import RecordOp
from server.core.projection import project_op
from server.core.syntax import tid_to_int
from server.storage import gaps, leases, repos
from server.storage.authors import outdate_identities
from server.storage.batch import Batch, RepoCommit
from server.storage.changes import commit_batch
from server.storage.cursors import StreamCursor
from server.storage.database import execute, value, write_transaction
from server.storage.jobs import due, fail
from tests.backfill.accounts import fetch, reset, state, stored, track, tracked, truth
from tests.builders import HOST, NOW_MS, NOW_US, iso, job_of_did, raw_cid

FAR_US = NOW_US * 2
POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def alice(net):
    return tracked(net, "alice")


def test_a_repo_is_read_whole_and_is_live(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pds, "PAGE_RECORDS", 10)
    posts = [alice.post(str(number)) for number in range(35)]
    for post in posts[:15]:
        alice.repost(post)
    alice.post("odd", rkey="odd.key")
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert state(alice) == (repos.LIVE, 1, None)
    assert due(FAR_US, 9, ()) == []


def test_a_viewers_follows_are_read_and_tracked(net, sources):
    viewer, friend = net.create_account("viewer"), net.create_account("friend")
    viewer.follow(friend)
    viewer.follow(friend)
    track(viewer, repos.ITEMS | repos.FOLLOWS)
    fetch(viewer, sources)
    assert value("SELECT count(*) FROM follows") == 2
    assert job_of_did(friend.did, sources.epoch) is not None


def test_records_older_than_the_horizon_are_left_to_others(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 10)
    day_us = 86_400_000_000
    for age in range(60):
        alice.post(str(age), at_us=net.clock() - age * day_us)
    fetch(alice, sources)
    assert len(stored(alice)) == 13
    assert value("SELECT horizon_rkey FROM repos") > 0


def test_each_write_says_whose_repo_it_locks_and_what_it_saves(net, alice, sources, monkeypatch):
    alice.repost(alice.post("one"))
    told = []
    commit_group = sources_of_jobs.commit_group

    def watched(writes, *rest):
        told.extend((one.repo, sorted(c.collection for c in one.changes)) for one in writes)
        return commit_group(writes, *rest)

    monkeypatch.setattr(sources_of_jobs, "commit_group", watched)
    fetch(alice, sources)
    number = value("SELECT author_id FROM repos")
    assert told[0] == (number, [POST, REPOST])
    assert {author_id for author_id, _ in told} == {number}


def test_what_is_gone_at_the_pds_goes_here(net, alice, sources):
    posts = [alice.post(str(number)) for number in range(5)]
    fetch(alice, sources)
    for post in posts[1:4]:
        alice.delete(post)
    reset(alice)
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert len(stored(alice)) == 2


@pytest.mark.parametrize(
    "fault", ["rev-future", "list-foreign", "list-same-cursor", "list-empty-page"]
)
def test_a_pds_that_lies_gets_nothing_in_and_takes_nothing_away(
    net, alice, sources, monkeypatch, fault
):
    monkeypatch.setattr(pds, "PAGE_RECORDS", 3)
    net.create_account("mallory").post("not by alice")
    for number in range(10):
        alice.post(str(number))
    fetch(alice, sources)
    before = stored(alice)
    reset(alice)
    net.faults.arm(fault, times=None)
    with pytest.raises(FetchFailed):
        fetch(alice, sources)
    assert net.faults.fired[fault] >= 1
    assert stored(alice) == before
    net.faults.disarm()
    fetch(alice, sources)
    assert stored(alice) == truth(alice)


@pytest.mark.parametrize(
    "leave",
    [
        lambda account: account.deactivate(),
        lambda account: account.takedown(),
        lambda account: account.delete_account(),
    ],
)
def test_who_leaves_while_their_repo_is_read_holds_no_gap_open(
    net, alice, sources, monkeypatch, leave
):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    for number in range(10):
        alice.post(str(number))
    with write_transaction():
        gaps.open_for_all(HOST, "hole", 0, NOW_MS, NOW_US)
    Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    assert state(alice)[0] == repos.PARTIAL
    leave(alice)
    fetch(alice, sources)
    assert state(alice)[:2] == (repos.LIVE, 0)
    gaps.close_healed(NOW_US)
    assert gaps.count_open() == 0


def test_a_broken_record_among_others_is_passed_over(net, alice, sources):
    alice.post("sound")
    net.faults.arm("list-broken-record", where={"collection": POST})
    fetch(alice, sources)
    assert net.faults.fired["list-broken-record"] == 1
    assert stored(alice) == truth(alice)


@pytest.mark.parametrize("fault", ["http-500", "http-garbage", "http-cut-body", "http-drop"])
def test_a_job_goes_on_where_a_failure_stopped_it(net, alice, sources, monkeypatch, fault):
    monkeypatch.setattr(pds, "PAGE_RECORDS", 3)
    for number in range(10):
        alice.post(str(number))
    net.faults.arm(fault, every=4, where={"host": "pds0"}, times=2)
    failures = 0
    for _ in range(9):
        job = job_of_did(alice.did, sources.epoch)
        if job is None:
            break
        try:
            Backfill(job, sources, StopEvent()).run()
        except FetchFailed as error:
            failures += 1
            fail(job, str(error), NOW_US)
    assert net.faults.fired[fault] >= 1
    assert failures >= (0 if fault == "http-drop" else 1)
    assert stored(alice) == truth(alice)


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (lambda account: account.deactivate(), "deactivated"),
        (lambda account: account.takedown(), "takendown"),
        (lambda account: account.suspend(), "suspended"),
        (lambda account: account.delete_account(tombstone=True), "deleted"),
    ],
)
def test_a_repo_that_is_not_shown_is_hidden_and_its_job_is_done(net, alice, sources, leave, status):
    leave(alice)
    fetch(alice, sources)
    # The PDS's word is kept apart from the relay's: a commit would prove it wrong.
    assert state(alice) == (repos.LIVE, 0, f"pds:{status}")
    assert due(FAR_US, 9, ()) == []


def test_who_comes_back_while_the_pds_is_asked_is_not_hidden(net, alice, sources, monkeypatch):
    alice.deactivate()
    latest_rev = pds.latest_rev

    def come_back_meanwhile(*args):
        try:
            return latest_rev(*args)
        finally:
            batch = Batch(statuses={alice.did: (True, None)})
            commit_batch(batch, StreamCursor(HOST, 1, NOW_MS), sources.epoch, NOW_US)

    monkeypatch.setattr(pds, "latest_rev", come_back_meanwhile)
    job = job_of_did(alice.did, sources.epoch)
    Backfill(job, sources, StopEvent()).run()
    assert state(alice) == (repos.PENDING, 1, None)
    alice.activate()
    monkeypatch.undo()
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 1, None)


def test_a_repo_that_moved_is_read_where_it_lives_now(net, alice, sources):
    alice.post("before")
    fetch(alice, sources)
    alice.migrate(1)
    alice.post("after")
    reset(alice)
    job = job_of_did(alice.did, sources.epoch)
    with pytest.raises(FetchFailed, match="moved"):
        Backfill(job, sources, StopEvent()).run()
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert state(alice) == (repos.LIVE, 1, None)


def test_an_address_that_may_be_out_of_date_is_looked_up(net, alice, sources):
    fetch(alice, sources)
    execute("UPDATE authors SET pds_url = ?", ("http://127.0.0.1:9",))
    outdate_identities([alice.did], 1)
    reset(alice)
    alice.post("where it lives")
    fetch(alice, sources)
    assert stored(alice) == truth(alice)


def test_a_job_of_a_deposed_leader_writes_nothing(net, alice, sources):
    alice.post("one")
    job = job_of_did(alice.did, sources.epoch)
    execute("UPDATE leases SET epoch = epoch + 1")
    with pytest.raises(leases.LeaseLost):
        Backfill(job, sources, StopEvent()).run()
    assert stored(alice) == set()


def test_a_pds_that_is_behind_what_broke_the_chain_takes_nothing_away(
    net, alice, sources, monkeypatch
):
    alice.post("one")
    fetch(alice, sources)
    before = tid_to_int(alice.state.repo.head.rev)
    alice.post("never told")
    since = tid_to_int(alice.state.repo.head.rev)
    record = {"text": "told", "createdAt": iso(NOW_MS)}
    told = project_op(RecordOp(POST, "told", raw_cid("told"), record), NOW_MS)
    batch = Batch(commits=[RepoCommit(alice.did, since + 1, since, [told], None)])
    commit_batch(batch, StreamCursor(HOST, 1, NOW_MS), sources.epoch, NOW_US)
    # A replica of the PDS that has neither: the last commit that it knows is ours of before.
    monkeypatch.setattr(pds, "latest_rev", lambda *_: before)
    with pytest.raises(FetchFailed, match="behind"):
        fetch(alice, sources)
    assert (POST, "told") in stored(alice)
    monkeypatch.undo()
    alice.post("told", rkey="told")
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert len(stored(alice)) == 3


def test_a_job_of_before_a_reset_writes_nothing(net, alice, sources):
    alice.post("one")
    job = job_of_did(alice.did, sources.epoch)
    with write_transaction():
        repos.reset([job.author_id], NOW_US)
    Backfill(job, sources, StopEvent()).run()
    assert stored(alice) == set()
    assert state(alice)[0] == repos.PENDING
