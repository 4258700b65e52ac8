"""The workers at work: whoever is slow, somebody else's job gets one."""

import time
from threading import Event as StopEvent
from threading import Thread

import pytest

from server.backfill import author, pds, worker
from server.backfill.author import Backfill
from server.backfill.worker import BackfillWorkers
from server.storage import repos
from server.storage.authors import author_ids, outdate_identities, save_identity
from server.storage.database import rows, value, write_transaction
from tests.backfill.accounts import state, stored, track, truth
from tests.builders import NOW_US, confirm_all, job_of_did
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db")


def queue(accounts, now_us=NOW_US):
    with write_transaction():
        repos.track(author_ids(a.did for a in accounts).values(), repos.ITEMS, now_us)


def test_a_slow_host_that_nobody_knew_the_accounts_were_at_does_not_hold_all_workers(
    net, sources, running, monkeypatch
):
    monkeypatch.setattr(worker, "JOBS_A_HOST", 2)
    slow = [net.create_account(f"slow{number}", pds=1) for number in range(8)]
    quick = net.create_account("quick")
    for account in (*slow, quick):
        account.post("one")
    queue(slow)
    queue([quick], NOW_US + 1)
    confirm_all(sources.epoch)
    net.faults.arm("http-slow", times=None, where={"host": "pds1"}, delay_s=0.4)
    running(lambda stop: BackfillWorkers(sources, 4, stop))
    wait_until(lambda: stored(quick) == truth(quick), "the job of another host")
    # Three requests of 0.4 s are needed for any of those.
    assert [account for account in slow if stored(account)] == []
    assert net.plc.requests.total() == len(slow) + 1
    assert value("SELECT max(attempts) FROM backfill_jobs") == 0
    net.faults.disarm()
    wait_until(lambda: value("SELECT count(*) FROM backfill_jobs") == 0, "the end of the queue")
    assert all(stored(account) == truth(account) for account in slow)
    # Those who had to wait for a place did so with their address known.
    assert net.plc.requests.total() == len(slow) + 1


def test_a_doubt_of_a_clock_that_was_ahead_has_nobody_asked_for_ever(
    net, sources, running, monkeypatch
):
    monkeypatch.setattr(worker, "JOBS_A_HOST", 1)
    slow = [net.create_account(f"slow{number}") for number in range(4)]
    queue(slow)
    half_an_hour_ahead_us = time.time_ns() // 1000 + 1_800_000_000
    for account in slow:
        save_identity(account.did, None, account.pds.url, None, NOW_US)
    outdate_identities([account.did for account in slow], half_an_hour_ahead_us)
    confirm_all(sources.epoch)
    net.faults.arm("http-slow", times=None, where={"host": "pds0"}, delay_s=0.2)
    running(lambda stop: BackfillWorkers(sources, 4, stop))
    wait_until(lambda: value("SELECT count(*) FROM backfill_jobs") == 0, "the end of the queue")
    # Once, and once more after what was a doubt of a time to come.
    assert net.plc.requests.total() <= 2 * len(slow)


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize("home", ["https://[:::]", "https://[12345::]", "https://a.test:99999"])
def test_an_address_that_cannot_be_read_ends_nobodys_work(net, sources, running, home):
    odd, quick = net.create_account("odd"), net.create_account("quick")
    quick.post("one")
    queue([odd, quick])
    save_identity(odd.did, None, home, None, NOW_US)
    confirm_all(sources.epoch)
    running(lambda stop: BackfillWorkers(sources, 1, stop))
    wait_until(lambda: value("SELECT max(attempts) FROM backfill_jobs") == 1, "the failure noted")
    wait_until(lambda: stored(quick) == truth(quick), "the job of another host")


def test_pages_that_drip_do_not_hold_all_workers(net, sources, running, monkeypatch):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 1)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 1)
    slow = [net.create_account(f"slow{number}", pds=1) for number in range(2)]
    quick = net.create_account("quick")
    quick.post("one")
    for account in slow:
        for number in range(9):
            account.post(str(number))
        track(account)
        # The newest page; the older ones come one by one.
        Backfill(job_of_did(account.did, sources.epoch), sources, StopEvent()).run()
    confirm_all(sources.epoch)
    net.faults.arm("http-slow", times=None, where={"host": "pds1"}, delay_s=0.4)
    running(lambda stop: BackfillWorkers(sources, 2, stop))
    wait_until(lambda: net.faults.fired["http-slow"] == 2, "both workers wait")
    queue([quick])
    confirm_all(sources.epoch)
    wait_until(lambda: stored(quick) == truth(quick), "the job of another host")
    # Eight pages of 0.4 s are needed for any of those.
    assert all(state(account)[0] == repos.PARTIAL for account in slow)


def test_viewers_whose_follows_have_no_end_do_not_keep_newest_pages_waiting(
    net, sources, running, monkeypatch
):
    monkeypatch.setattr(author, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 1)
    endless = [net.create_account(f"endless{number}", pds=1) for number in range(4)]
    for account in endless:
        for number in range(40):
            account.follow(f"did:web:nobody{number}.test", emit=False)
        track(account, repos.ITEMS | repos.FOLLOWS)
    quick = net.create_account("quick")
    quick.post("one")
    queue([quick])
    confirm_all(sources.epoch)
    net.faults.arm("http-slow", times=None, where={"host": "pds1"}, delay_s=0.05)
    # Two, and one in reserve, for four who always have more.
    running(lambda stop: BackfillWorkers(sources, 2, stop))
    wait_until(lambda: stored(quick) == truth(quick), "the newest page")
    assert value("SELECT count(*) FROM follows") < 4 * 20


def test_whose_turn_is_cut_short_by_our_own_end_has_not_failed(net, sources):
    alice = net.create_account("alice")
    alice.post("one")
    queue([alice])
    confirm_all(sources.epoch)
    net.faults.arm("http-slow", times=None, where={"host": "pds0"}, delay_s=0.3)
    stop = StopEvent()
    thread = Thread(target=BackfillWorkers(sources, 1, stop).run)
    thread.start()
    wait_until(lambda: net.faults.fired["http-slow"] == 1, "the first request")
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    # Nobody would wait for the page of somebody whose job has failed (viewers.readiness).
    assert rows("SELECT attempts, not_before_us, last_error FROM backfill_jobs") == [
        (0, NOW_US, None)
    ]
