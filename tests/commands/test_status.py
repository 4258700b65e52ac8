"""`status`: the same to people and to scripts, whoever runs, and never a change."""

import sqlite3
import time
from contextlib import closing

import pytest

from server.storage import jobs, leases, viewers
from server.storage.authors import save_identity
from server.storage.database import execute, value
from tests.builders import Stream, did, follow, job_of, make_live, post, tid


@pytest.fixture
def now_us():
    return time.time_ns() // 1000


@pytest.fixture
def world(db, lease, now_us):
    """A viewer of two: one complete, one whose PDS fails."""
    viewers.welcome(did("viv"), now_us)
    save_identity(did("viv"), "viv.test", None, None, now_us)
    stream = Stream(lease.epoch)
    stream.say("viv", follow(tid(0), "ann"), follow(tid(1), "bob"))
    make_live("viv", "ann", epoch=lease.epoch, rev=1)
    stream.revs["ann"] = 1
    stream.say("ann", post(tid(2)))
    jobs.fail(job_of("bob", lease.epoch), "it hangs", now_us + 3_600_000_000)
    return db


def test_everything_is_in_the_json(world, lease, gapless, now_us):
    leases.report(lease.epoch, now_us, now_us - 5_000_000)
    done = gapless(world, "status", "--json")
    said = done.json()
    assert done.status == 0, done.err
    assert said["problem"] is None
    assert (said["leader"]["holder"], said["leader"]["epoch"]) == ("test", lease.epoch)
    assert [(s["host"], s["seq"]) for s in said["sources"]] == [("relay.test", 2)]
    assert {q["name"]: (q["waiting"], q["due"], q["failing"]) for q in said["queues"]} == {
        "follows of viewers": (0, 0, 0),
        "newest pages": (1, 0, 1),
        "newest pages of many": (0, 0, 0),
        "older pages": (0, 0, 0),
    }
    assert (said["completeness"]["authors"], said["completeness"]["complete"]) == (3, 2)
    (shown,) = said["completeness"]["shortfalls"]
    assert (shown["did"], shown["why"], shown["error"]) == (did("bob"), "failing", "it hangs")
    assert (said["open_gaps"], said["gaps"]) == (0, [])
    counts = said["counts"]
    assert (counts["viewers"], counts["authors"], counts["items"]) == (1, 3, 1)
    assert counts["database_bytes"] > 10_000


def test_people_read_the_same(world, lease, gapless, now_us):
    leases.report(lease.epoch, now_us, now_us - 5_000_000)
    stream = Stream(lease.epoch)
    stream.seq, stream.revs["ann"] = 10, 7
    stream.say("ann", post(tid(3)))
    done = gapless(world, "status")
    assert done.status == 0
    for words in (
        "the stream is being read",
        "relay.test at 11",
        "all authors: 1 of 3",
        "1 failing",
        f"{did('bob')}: failing, tried 1 times",
        "it hangs",
        "1 open",
        f"{did('ann')}, relay.test, at 2026",
        "chain",
        "1 viewers, 3 authors",
    ):
        assert words in done.out, done.out


def test_one_viewers_feed_is_asked_for_by_handle_or_did(world, gapless, names):
    names.own("viv", "viv.test")
    for name in ("viv.test", "@viv.test", did("viv")):
        said = gapless(world, "status", "--json", "--viewer", name, **names.settings).json()
        assert said["viewer"] == did("viv")
        assert said["completeness"]["counts"] == {"failing": 1}
    done = gapless(world, "status", "--viewer", did("nobody"))
    assert done.status == 2
    assert "has not opened one of our feeds" in done.err
    done = gapless(world, "status", "--viewer", did("ann"))
    assert (done.status, "has not opened one of our feeds" in done.err) == (2, True)
    done = gapless(world, "status", "--viewer", "not an account")
    assert "neither a DID nor a handle" in done.err


def test_what_an_account_calls_itself_is_said_to_be_a_claim(world, gapless, now_us):
    save_identity(did("bob"), "bob.test", None, None, now_us)
    assert f"{did('bob')} (calls itself bob.test): failing" in gapless(world, "status").out


def test_a_service_that_reads_nothing_has_an_exit_status_of_its_own(world, lease, gapless, now_us):
    leases.report(lease.epoch, now_us - 60_000_000, None)
    done = gapless(world, "status")
    assert done.status == 3
    assert "silent for" in done.out


def test_a_database_of_another_version_is_refused_and_left_alone(sqlite, gapless):
    count = value("SELECT count(*) FROM sqlite_master")
    execute("UPDATE schema_migration SET name = '9999_later' WHERE name = '0001_initial'")
    done = gapless(sqlite, "status")
    assert done.status == 2
    assert "newer Gapless" in done.err
    execute("DELETE FROM schema_migration")
    done = gapless(sqlite, "status")
    assert done.status == 2
    assert "older than this Gapless" in done.err
    assert value("SELECT count(*) FROM sqlite_master") == count
    assert value("SELECT count(*) FROM schema_migration") == 0


def test_a_database_that_is_not_there_is_not_made(tmp_path, gapless):
    done = gapless(f"sqlite:///{tmp_path / 'none' / 'x.db'}", "status")
    assert done.status == 2
    assert "no database yet" in done.err
    assert not (tmp_path / "none").exists()
    done = gapless("postgresql://nobody:secret@127.0.0.1:1/none", "status")
    assert done.status == 1
    assert "secret" not in done.err


def test_it_waits_for_no_writer(sqlite, gapless):
    with closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE counters SET value = 1")
        began = time.monotonic()
        assert gapless(sqlite, "status").status == 3
        assert time.monotonic() - began < 10
