"""What has to happen now and then does happen, in a thread that ends when it is told to."""

import threading
import time
from datetime import UTC, datetime, timedelta

import apscheduler.executors.base
import apscheduler.schedulers.base
import pytest

from server import schedule
from server.backfill import reconcile
from server.core.config import load_config
from server.core.metrics import IngestMetrics
from server.core.projection import DropRecord
from server.core.syntax import POST, tid_to_int
from server.identity.upkeep import IdentityUpkeep
from server.schedule import Schedule
from server.storage import departures, repos, retention, rounds, stalls, viewers
from server.storage.authors import author_ids, load_identity, outdate_identities
from server.storage.batch import Batch, RepoCommit
from server.storage.database import database, execute, value, write_transaction
from server.storage.stalls import DatabaseWait
from tests.backfill.accounts import fetch, reset, stored, track
from tests.backfill.watching import findings, stream_is_at
from tests.ingest.conftest import wait_until
from tests.ingest.test_backpressure import locked

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def counted():
    return IngestMetrics()


@pytest.fixture
def wait():
    return DatabaseWait("stream")


@pytest.fixture
def scheduled(sources, counted, wait, monkeypatch):
    """The schedule, at work, a minute of whose is a twentieth of a second."""
    monkeypatch.setattr(schedule, "MINUTE", 0.05)
    monkeypatch.setattr(reconcile, "ROUND_HOURS", 0)
    monkeypatch.setattr(schedule, "BACKUP_AFTER_SECONDS", 0)
    stop, errors, settings = threading.Event(), [], {}

    def body():
        try:
            config = load_config({"VIEWER_DAYS": "7", **settings})
            upkeep = IdentityUpkeep(sources.directory, stop)
            Schedule(config, sources, upkeep, stop, counted, (wait,)).run()
        except Exception as error:  # noqa: BLE001  the test looks at it
            errors.append(error)
        finally:
            database.close()

    thread = threading.Thread(target=body)

    def start(**environ):
        settings.update(environ)
        thread.start()

    yield start, errors
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_whatever_is_due_is_done(net, alice, viewer, sources, scheduled, monkeypatch):
    monkeypatch.setattr(retention, "KEPT_ITEMS", 1)
    monkeypatch.setattr(departures, "LONELY_US", 0)
    start, errors = scheduled
    bob, carl, dora = (net.create_account(name) for name in ("bob", "carl", "dora"))
    old = dora.post("old", at_us=net.clock() - 40 * 86_400_000_000)
    dora.post("new", reply_to=old)
    for account in (bob, carl, dora):
        viewer.follow(account)
    reset(viewer)
    gone = viewers.welcome(carl.did, 1)
    lonely = net.create_account("lonely")
    track(lonely)
    for account in (viewer, bob, carl, dora, lonely):
        fetch(account, sources)
    # Nothing goes for its age that is not old by the stream as well.
    stream_is_at(sources.epoch, 60_000, Batch(statuses={bob.did: (False, "deleted")}))
    alice.post("unheard")
    outdate_identities([dora.did], 1)
    start()
    wait_until(lambda: (bob.did, "other status") in findings(), "the claim is looked into")
    wait_until(lambda: load_identity(dora.did).checked_us > 0, "the identity is looked up")
    wait_until(lambda: value("SELECT count(*) FROM viewers WHERE author_id = ?", (gone,)) == 0)
    number = author_ids([lonely.did])[lonely.did]
    state = "SELECT state FROM repos WHERE author_id = ?"
    wait_until(lambda: value(state, (number,)) == repos.LET_GO, "nobody follows them")
    wait_until(lambda: len(stored(dora)) == 1, "the old item goes")
    asked = "SELECT count(*) FROM outside_posts"
    wait_until(lambda: value(asked) == 1, "what hangs on it is to be looked up")

    def missed_is_found():
        stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000)
        return (alice.did, "missed commit") in findings()

    wait_until(missed_is_found, "the missed commit is found")
    assert errors == []


def test_a_backup_that_fails_does_not_end_the_schedule_and_is_known_not_to_be_there(
    scheduled, counted, tmp_path, caplog
):
    start, errors = scheduled
    start(BACKUP_DIR=str(tmp_path / ("x" * 300)))
    wait_until(lambda: "backup failed" in caplog.text, "the backup fails")
    told_us = time.time_ns() // 1000
    wait_until(lambda: rounds.load("trim").began_us > told_us, "other jobs are done")
    assert errors == []
    # The alert is about this number: without it, it would never come.
    name = "gapless_backup_timestamp_seconds"
    assert counted.registry.get_sample_value(name, {"kind": "sqlite"}) == 0


@pytest.fixture
def clock(monkeypatch):
    """The clock that the scheduler looks at: `ahead` of the real one."""

    class Clock(datetime):
        ahead = timedelta()

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + cls.ahead

    for module in (schedule, apscheduler.schedulers.base, apscheduler.executors.base):
        monkeypatch.setattr(module, "datetime", Clock)
    return Clock


def test_what_is_due_is_done_also_when_the_clock_is_set_back(scheduled, clock):
    start, errors = scheduled
    start()
    wait_until(lambda: rounds.load("trim").began_us > 0, "the schedule is at work")
    for hours in (-1, -100):
        clock.ahead = timedelta(hours=hours)
        set_us = time.time_ns() // 1000
        wait_until(lambda set_us=set_us: rounds.load("trim").began_us > set_us + 200_000)
    assert errors == []


def test_what_was_queued_before_the_clock_was_set_back_is_brought_forward(net, scheduled, caplog):
    start, errors = scheduled
    now_us = time.time_ns() // 1000
    with write_transaction():
        numbers = author_ids([net.create_account("dora").did]).values()
        repos.track(numbers, repos.ITEMS, now_us + 100 * 3_600_000_000)
    start()
    waits_us = "SELECT not_before_us - ? FROM backfill_jobs"
    wait_until(lambda: "the clock was set back" in caplog.text, "the job is due")
    assert value(waits_us, (now_us,)) < 60_000_000
    assert errors == []


def test_a_job_that_is_late_runs_once(scheduled, clock, monkeypatch):
    start, errors = scheduled
    monkeypatch.setattr(schedule, "MINUTE", 0.3)
    runs = []
    monkeypatch.setattr(schedule.tombstones, "expire", runs.append)
    start()
    wait_until(lambda: rounds.load("trim").began_us > 0, "the schedule is at work")
    assert runs == []
    # It runs once an hour, and was not there for two of them.
    clock.ahead = timedelta(hours=2, minutes=30)
    wait_until(lambda: runs != [], "the job runs")
    done_us = time.time_ns() // 1000
    wait_until(lambda: rounds.load("trim").began_us > done_us + 200_000)
    assert len(runs) == 1
    assert errors == []


@pytest.mark.parametrize(("late_s", "wait_s"), [(0, 10), (3, 7), (10, 10), (86_400 * 20, 10)])
def test_however_late_a_job_is_one_run_is_listed(late_s, wait_s):
    """As APScheduler lists them: up to now, and then the one that is to come."""
    trigger = schedule._Every(10)
    due = datetime(2026, 11, 23, tzinfo=UTC)
    now = due + timedelta(seconds=late_s)
    runs = [due]
    while runs[-1] <= now:
        runs.append(trigger.get_next_fire_time(runs[-1], now))
    assert [run - now for run in runs[1:]] == [timedelta(seconds=wait_s)]


def test_a_clock_that_is_ahead_takes_nothing_away(
    net, alice, viewer, sources, counted, monkeypatch
):
    monkeypatch.setattr(retention, "KEPT_ITEMS", 1)
    gone = alice.post("gone")
    alice.post("two")
    reset(alice)
    fetch(alice, sources)
    lonely = net.create_account("lonely")
    track(lonely)
    fetch(lonely, sources)
    rev = tid_to_int(alice.state.repo.head.rev)
    alice.delete(gone)
    dropped = (DropRecord(POST, gone.rkey),)
    told = RepoCommit(alice.did, tid_to_int(alice.state.repo.head.rev), rev, dropped, None)
    stream_is_at(sources.epoch, 0, Batch(commits=[told]))
    execute("UPDATE tombstones SET written_us = ?", (time.time_ns() // 1000,))
    stop = threading.Event()
    keeper = Schedule(
        load_config({}), sources, IdentityUpkeep(sources.directory, stop), stop, counted
    )

    def a_minute_passes():
        keeper._trim()
        keeper._let_go()
        keeper._expire()

    def what_is_there():
        tables = ("feed_items", "viewers", "tombstones", "departures", "repos WHERE state <> 0")
        return [value(f"SELECT count(*) FROM {table}") for table in tables]  # noqa: S608

    a_minute_passes()
    before = what_is_there()
    assert before == [2, 1, 1, 1, 3]
    right_us = schedule._now_us
    monkeypatch.setattr(schedule, "_now_us", lambda: right_us() + 365 * 86_400_000_000)
    for _ in range(2):
        a_minute_passes()
    assert what_is_there() == before
    # Once the stream is there as well, it is no mistake.
    stream_is_at(sources.epoch, 365 * 86_400_000)
    for _ in range(2):
        a_minute_passes()
    assert what_is_there() == [1, 0, 0, 1, 2]


def test_before_the_first_event_nothing_goes_for_its_age(alice, viewer, sources, counted):
    execute("UPDATE viewers SET last_us = 1")
    stop = threading.Event()
    upkeep = IdentityUpkeep(sources.directory, stop)
    Schedule(load_config({}), sources, upkeep, stop, counted)._let_go()
    assert value("SELECT count(*) FROM viewers") == 1


def test_who_cannot_be_let_go_yet_keeps_nobody_else_here(
    net, viewer, sources, counted, monkeypatch
):
    monkeypatch.setattr(schedule, "GONE_VIEWERS", 2)
    execute("UPDATE viewers SET last_us = 9")
    # Longer away, and still being fetched: their PDSes see to that.
    for name in ("dora", "dick", "dave"):
        viewers.welcome(net.create_account(name).did, 1)
    stream_is_at(sources.epoch, 0)
    stop = threading.Event()
    upkeep = IdentityUpkeep(sources.directory, stop)
    keeper = Schedule(load_config({}), sources, upkeep, stop, counted)
    for _ in range(3):
        keeper._let_go()
    assert viewers.find(viewer.did) is None
    assert value("SELECT count(*) FROM viewers") == 3


def test_the_schedule_of_a_deposed_leader_ends(alice, sources, scheduled):
    start, errors = scheduled
    alice.set_status("deleted", emit=False)
    stream_is_at(sources.epoch, 0, Batch(statuses={alice.did: (False, "deleted")}))
    execute("UPDATE leases SET epoch = epoch + 1")
    start()
    wait_until(lambda: errors != [], "the schedule ends")
    assert "leads now" in str(errors[0])
    assert len(stored(alice)) == 1


def test_who_waits_for_the_database_is_told_of_also_when_every_job_waits_for_it(
    db, scheduled, counted, wait, monkeypatch, caplog
):
    monkeypatch.setattr(stalls, "STALL_SECONDS", 0.1)
    start, errors = scheduled
    start()
    waits_s = counted.database_wait.labels("stream")._value.get
    wait_until(lambda: rounds.load("trim").began_us > 0, "the schedule is at work")
    with locked(db), wait.under_way():
        wait_until(lambda: "still waiting for the database who=stream" in caplog.text)
        wait_until(lambda: waits_s() > 0.1, "it is in the metrics")
    wait_until(lambda: waits_s() == 0, "it is over")
    assert caplog.text.count("waited for the database who=stream") == 1
    assert errors == []
