"""The pace of comparing: whose turn it is, how much is asked, and who goes first."""

import time
from dataclasses import replace

import pytest

from server.backfill import look, pds, reconcile
from server.core.syntax import FOLLOW, tid_to_int
from server.storage import repos, retention, rounds
from server.storage.authors import author_ids
from server.storage.batch import Batch, RepoCommit
from server.storage.database import execute, write_transaction
from server.storage.discrepancies import OtherRecords, RecordDifference
from tests.backfill.accounts import fetch, reset, track
from tests.backfill.watching import findings, look_and_let_the_stream_pass, stream_is_at
from tests.builders import job_of_did

LATEST, LISTING = "com.atproto.sync.getLatestCommit", "com.atproto.repo.listRecords"

YEAR_US = 365 * 86_400_000_000

pytestmark = pytest.mark.usefixtures("db")


def test_an_author_whose_pds_fails_is_left_until_the_next_round(net, alice, watch):
    alice.post("two")
    net.faults.arm("http-500", where={"host": "pds0"})
    watching = watch()
    watching.run()
    assert net.faults.fired["http-500"] == 1
    assert watching.suspicions == {}
    watching.run()
    assert len(watching.suspicions) == 1


def test_a_round_asks_no_more_than_its_share_and_goes_on_after_a_restart(
    net, sources, watch, monkeypatch
):
    accounts = [net.create_account(f"a{number}") for number in range(11)]
    for account in accounts:
        track(account)
        fetch(account, sources)
    before = net.pds[0].requests[LATEST]
    monkeypatch.setattr(reconcile, "ASKERS", 2)
    watching = watch()
    watching.tours[1].requests_a_minute = 4
    watching.run()
    assert net.pds[0].requests[LATEST] - before == 4
    for _ in range(2):
        watching = watch()
        watching.tours[1].requests_a_minute = 4
        watching.run()
    assert net.pds[0].requests[LATEST] - before == 11
    assert rounds.load("everybody").author_id == 0
    monkeypatch.setattr(reconcile, "ROUND_HOURS", 1)
    watch().run()
    assert net.pds[0].requests[LATEST] - before == 11


def test_requests_beyond_the_share_are_owed_to_the_next_minute(net, viewer, watch, monkeypatch):
    monkeypatch.setattr("server.backfill.pds.PAGE_RECORDS", 1)
    for number in range(4):
        viewer.follow(f"did:web:somebody{number}.test", emit=False)
    watching = watch()
    follows = watching.tours[0]
    follows.requests_a_minute = 2
    watching.run()
    # A page for each follow and the empty one; what differs sends us to the directory as well.
    assert follows.owed == 6 + 1 - 2
    before = net.pds[0].requests[LISTING]
    watching.run()
    assert net.pds[0].requests[LISTING] == before


def test_a_listing_that_drips_is_compared_as_far_as_it_goes_in_time(
    net, viewer, watch, sources, monkeypatch, caplog
):
    monkeypatch.setattr(pds, "PAGE_RECORDS", 1)
    monkeypatch.setattr(look, "LOOK_SECONDS", 0.3)
    caplog.set_level("INFO")
    oldest = viewer.follow("did:web:oldest.test", emit=False)
    for number in range(5):
        viewer.follow(f"did:web:somebody{number}.test", emit=False)
    reset(viewer)
    fetch(viewer, sources)
    # Both are different; the listing comes to the one only.
    viewer.delete(oldest)
    newest = viewer.follow("did:web:newest.test", emit=False)
    net.faults.arm(
        "http-slow", times=None, where={"host": "pds0", "collection": FOLLOW}, delay_s=0.2
    )
    watching = watch()
    watching.run()
    assert 1 <= net.faults.fired["http-slow"] <= 2
    (suspicion,) = (
        suspicion
        for (_, tour), suspicion in watching.suspicions.items()
        if suspicion.repo.did == viewer.did and tour == "follows"
    )
    assert suspicion.finding == OtherRecords([RecordDifference(FOLLOW, newest.rkey, True, None)])
    assert f"compared in part did={viewer.did}" in caplog.text


def test_what_there_is_no_time_to_list_is_left_out(net, alice, watch, monkeypatch):
    monkeypatch.setattr(look, "LOOK_SECONDS", 0.1)
    # One record alone would take another request to show its order.
    alice.post("two")
    net.faults.arm("http-slow", times=None, where={"host": "pds0"}, delay_s=0.15)
    before = net.pds[0].requests[LISTING]
    watch(carries_chain=False).run()
    assert net.faults.fired["http-slow"] == net.pds[0].requests[LISTING] - before == 1


def test_few_are_compared_while_many_wait_to_be_fetched_but_all_in_the_end(
    net, sources, watch, monkeypatch
):
    monkeypatch.setattr(reconcile, "BUSY_JOBS", 2)
    monkeypatch.setattr(reconcile, "ASKERS", 1)
    monkeypatch.setattr(reconcile, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(reconcile, "BUSY_PAUSE_SECONDS", 0.2)
    complete = [net.create_account(f"a{number}") for number in range(3)]
    waiting = [net.create_account(f"b{number}") for number in range(2)]
    for account in complete:
        track(account)
        fetch(account, sources)
    for account in waiting:
        track(account)
    watching, pds = watch(), net.pds[0]
    for compared in (1, 2, 3):
        before = pds.requests[LATEST]
        watching.run()
        assert pds.requests[LATEST] == before + 1, compared
    assert job_of_did(waiting[0].did, sources.epoch) is not None
    watching.run()
    fetch(waiting[0], sources)
    before = pds.requests[LATEST]
    watching.run()
    assert pds.requests[LATEST] > before + 1


def test_what_a_later_look_finds_is_not_hidden_by_what_an_earlier_one_suspects(
    viewer, alice, sources, watch
):
    since = tid_to_int(viewer.state.repo.head.rev)
    viewer.post("told late")
    watching = watch()
    watching.run()
    execute("DELETE FROM follows")
    watching.run()
    told = RepoCommit(viewer.did, tid_to_int(viewer.state.repo.head.rev), since, (), None)
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000, Batch(commits=[told]))
    watching._settle()
    assert findings() == [(viewer.did, "other records")]


def test_a_round_that_began_while_the_clock_was_ahead_keeps_nobody_waiting(
    alice, watch, monkeypatch
):
    clock = Clock(monkeypatch)
    watching = watch()
    monkeypatch.setattr(reconcile, "ROUND_HOURS", 6)
    clock.ahead_us = YEAR_US
    watching.run()
    alice.post("two")
    clock.ahead_us = 0
    watching.run()
    assert len(watching.suspicions) == 1


def test_what_was_noted_while_the_clock_was_ahead_is_found_all_the_same(alice, watch, monkeypatch):
    clock = Clock(monkeypatch)
    watching = watch()
    alice.post("two")
    clock.ahead_us = YEAR_US
    watching.run()
    assert len(watching.suspicions) == 1
    clock.ahead_us = 0
    look_and_let_the_stream_pass(watching)
    assert findings() == [(alice.did, "missed commit")]


def test_what_was_compared_while_the_clock_was_ahead_vouches_for_nothing(
    alice, sources, watch, monkeypatch
):
    with write_transaction():
        repos.void_chains()
    rev = tid_to_int(alice.state.repo.head.rev)
    alice.post("lost", emit=False)
    alice.like(alice.post("told"))
    head = tid_to_int(alice.state.repo.head.rev)
    stream_is_at(sources.epoch, 0, Batch(commits=[RepoCommit(alice.did, head, rev, (), None)]))
    watching = watch()
    with monkeypatch.context() as patch:
        patch.setattr(look, "time", AheadTime)
        watching.run()
    look_and_let_the_stream_pass(watching)
    assert findings() == [(alice.did, "other records")]


class AheadTime:
    """The clock of a look, a year ahead."""

    monotonic = time.monotonic

    @staticmethod
    def time_ns():
        return time.time_ns() + YEAR_US * 1000


def test_without_a_chain_what_retention_took_is_not_missing(net, sources, watch, monkeypatch):
    monkeypatch.setattr(retention, "KEPT_ITEMS", 2)
    hour_us = 3_600_000_000
    loud = net.create_account("loud")
    post = loud.post("one", at_us=net.clock() - 100 * hour_us)
    for hours in (50, 49, 48, 2, 1, 0):
        loud.repost(post, at_us=net.clock() - hours * hour_us)
    track(loud)
    fetch(loud, sources)
    number = author_ids([loud.did])[loud.did]
    assert retention.trim(number, (net.clock() - 24 * hour_us) // 1000) == 4
    watching = watch(carries_chain=False)
    watching.sources = replace(sources, retention_days=1)
    look_and_let_the_stream_pass(watching)
    assert findings() == []


class Clock:
    """The clock of the reconciliation, ahead of the right one."""

    def __init__(self, monkeypatch):
        self.ahead_us = 0
        right_us = reconcile._now_us
        monkeypatch.setattr(reconcile, "_now_us", lambda: right_us() + self.ahead_us)
