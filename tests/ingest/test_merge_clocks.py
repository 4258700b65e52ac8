"""Merge: what came too late is noticed whatever our clock says."""

import time

import pytest

from server.ingest import merge
from server.ingest.merge import MEMORY_SECONDS, REORDER_SECONDS, Merge
from server.storage.batch import RepoCommit
from tests.builders import NOW_MS, did, make_live
from tests.ingest.asking import reasons
from tests.ingest.test_hedged_cursors import MINUTES, ONE, TWO, Past
from tests.ingest.test_merge import ALICE, Told, event

DAY_MS = 86_400_000


@pytest.mark.usefixtures("db")
def test_a_clock_that_is_ahead_hides_nothing_that_came_late(lease, monkeypatch):
    past = Past(lease.epoch)
    make_live("alice", epoch=lease.epoch, rev=1)
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0.0)
    true_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + DAY_MS * 1_000_000)
    past.tell(ONE, MINUTES - 1)
    past.writer.commit()
    past.tell(TWO, MINUTES - 2)
    past.writer.commit()
    assert reasons() == [(did("alice"), "told late")]


def late_after(told, begin_s):
    """Who is fetched, when one source tells something that the other lost later than the next."""
    told.tell("one", event(3, has_chain=False, at_s=begin_s), begin_s)
    told.release(begin_s + REORDER_SECONDS)
    told.tell("two", event(2, has_chain=False, at_s=begin_s), begin_s + 5)
    told.release(begin_s + 5 + REORDER_SECONDS)
    return told.batch.late


@pytest.mark.parametrize("off_ms", [-DAY_MS, 0, DAY_MS])
def test_a_clock_that_was_wrong_at_the_beginning_hides_nothing_later(off_ms, monkeypatch):
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))
    told = Told()
    told.merge = Merge(told.comparison, 0.0, NOW_MS + off_ms)
    for second in range(int(MEMORY_SECONDS) + 20):
        told.release(float(second))
    assert late_after(told, MEMORY_SECONDS + 20) == {ALICE}


def test_a_host_whose_clock_is_behind_hides_nothing_that_came_late(monkeypatch):
    """Its commits are of long ago by their own time, but not by that of the source."""
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))
    told, behind = Told(), event(2)._replace(time_ms=NOW_MS - DAY_MS)
    told.tell("two", event(3, has_chain=False), 100.0)
    told.release(100.0 + REORDER_SECONDS)
    assert told.merge.is_new("one", behind, 105.0, NOW_MS + 105_000)
    lost = RepoCommit(ALICE, 2, 1, (), None)
    told.merge.hold("one", behind, lost, 105.0, NOW_MS + 105_000)
    told.release(105.0)
    assert told.batch.late == {ALICE}


@pytest.mark.parametrize(("begin_s", "late"), [(99.5, set()), (120.0, {ALICE})])
def test_memory_that_is_full_covers_what_it_still_has(begin_s, late, monkeypatch):
    monkeypatch.setattr(merge, "MAX_EVENTS", 10)
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))
    told = Told()
    for second in range(100):
        told.tell("one", event(2, repo=did(f"author{second}"), at_s=second), float(second))
        told.release(float(second))
    assert late_after(told, begin_s) == late
