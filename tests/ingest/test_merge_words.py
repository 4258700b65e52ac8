"""Merge: words on accounts, also of a host whose clock stands still, and what waits meanwhile."""

import pytest

from server.core.events import UNTOLD, Account, Commit, Identity, RecordOp, Sync
from server.core.syntax import POST, last_tid_of, tid_to_int
from server.ingest import merge
from server.ingest.merge import HOLD_SECONDS, MEMORY_SECONDS
from server.storage import repos
from server.storage.database import rows
from server.storage.page_rows import Page
from server.storage.pages import Snapshot
from tests.builders import (
    NOW_MS,
    commit_page,
    finish,
    iso,
    job_of,
    post,
    raw_cid,
    store_snapshot,
    tid,
)
from tests.ingest import test_writer
from tests.ingest.test_merge import ALICE, Told, event


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What the database has of each repo."""
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))


def news(told, *said):
    """Of what the sources say in turn (who, and the event), which counts."""
    return [told.merge.is_new(who, one, 1.0, NOW_MS + 1000) for who, one in said]


@pytest.mark.parametrize("kind", [Sync, Identity])
@pytest.mark.parametrize("time_ms", [0, NOW_MS])
def test_a_later_event_of_the_same_moment_counts(kind, time_ms):
    told = Told()
    first, second = kind(1, time_ms, ALICE), kind(2, time_ms, ALICE)
    assert news(told, ("one", first), ("one", second)) == [True, True]
    # Said again after a break, or by the other one.
    said = [("one", first), ("one", second), ("two", first)]
    assert news(told, *said) == [False, False, False]


def word(seq, *, is_active):
    return Account(seq, NOW_MS, ALICE, is_active, None if is_active else "deactivated")


def test_the_last_word_of_one_moment_counts():
    told = Told()
    gone, back, away = (word(n, is_active=n == 2) for n in (1, 2, 3))
    assert news(told, ("one", gone), ("one", back), ("one", away)) == [True, True, True]
    said = [(who, one) for who in ("two", "one") for one in (gone, back, away)]
    assert not any(news(told, *said))


def test_what_is_said_again_under_other_numbers_hides_nobody():
    """As by another machine of the same name."""
    told = Told()
    gone = Account(1, NOW_MS, ALICE, False, "deactivated")
    back = Account(2, NOW_MS + 1, ALICE, True, None)
    again = [
        ("one", one.__class__(7, one.time_ms, ALICE, one.active, one.status))
        for one in (gone, back)
    ]
    assert news(told, ("one", gone), ("one", back), *again) == [True, True, False, False]


def test_numbers_are_forgotten_with_what_they_are_of():
    told = Told()
    late = Account(9, NOW_MS - 60_000, ALICE, False, "deactivated")
    news(told, ("one", word(1, is_active=True)), ("two", late), ("one", Sync(2, 0, ALICE)))
    told.merge.release(told.batch, 2 + MEMORY_SECONDS, NOW_MS)
    assert (told.merge.seen, told.merge.numbers) == ({}, {})


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("has_chain", [True, False])
def test_a_repo_that_was_put_back_is_not_asked_for_a_commit_from_before_that(
    has_chain, monkeypatch
):
    """The commit is told first, and waits for its turn when the #sync comes."""
    told = test_writer.begin({("live", ()): "ann"}, test_writer.merged())
    told.has_chain = has_chain
    told.revs[test_writer.did("ann")] = 2
    told.tell("ann", "commit")
    told.writer.commit()
    assert len(told.writer.merge.held) == 1
    told.tell("ann", "sync")
    told.writer.commit()
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0)
    monkeypatch.setattr(merge, "HOLD_SECONDS", 0)
    told.writer.commit()
    test_writer.read_anew(told, {"": "ann"}, behind=2)
    assert rows("SELECT state FROM repos") == [(repos.LIVE,)]


def put_back(rev, said_ms=NOW_MS):
    return Sync(9, said_ms, ALICE, rev)


@pytest.mark.parametrize("has_chain", [True, False])
def test_what_is_told_of_before_a_repo_was_put_back_when_it_was_is_not_passed_on(has_chain):
    told = Told()
    told.tell("one", event(2), 100.0)
    told.release(100.0)
    assert told.merge.is_new("one", put_back(2), 100.0, NOW_MS)
    told.merge.let_go(put_back(2), told.batch)
    told.tell("two", event(3, has_chain=has_chain), 101.0)
    after = event(3, has_chain=has_chain)._replace(rev=last_tid_of(NOW_MS) + 1, since=2)
    told.tell("two", after, 101.0)
    told.release(101.0 + HOLD_SECONDS)
    # That it came before is what clocks say: so the PDS is asked.
    assert (told.revs, told.batch.late) == ([2, after.rev], {ALICE})


def test_an_older_word_does_not_hide_what_a_later_one_took_back():
    told = Told()
    for said in (put_back(2), put_back(1, NOW_MS - 60_000)):
        told.merge.let_go(said, told.batch)
    told.tell("one", event(3), 101.0)
    told.release(101.0 + HOLD_SECONDS)
    assert (told.revs, told.batch.late) == ([], {ALICE})


@pytest.mark.usefixtures("db")
def test_a_deletion_that_was_taken_back_does_not_come_from_a_slower_source(monkeypatch):
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0)
    told = test_writer.begin({("live", ()): "ann"}, test_writer.merged())
    ann, before, later = test_writer.did("ann"), tid_to_int(tid(-9)), tid_to_int(tid(-8))
    said = RecordOp(POST, tid(-9), raw_cid(1), {"text": "", "createdAt": iso(NOW_MS)})
    gone = RecordOp(POST, tid(-9), None, None)
    for one in (
        Commit(1, NOW_MS, ann, before, 1, (said,)),
        Commit(2, NOW_MS, ann, later, before, (gone,)),
        Sync(3, NOW_MS, ann, before),
        Commit(4, NOW_MS, ann, later, UNTOLD, (gone,)),
    ):
        told.place.note(one.seq, NOW_MS)
        told.writer.add(told.place, one, NOW_MS)
        told.writer.commit()
    job = job_of("ann", told.epoch)
    assert store_snapshot(job, before, told.epoch) is Snapshot.STORED
    listed = Page(POST, [post(tid(-9))], {tid(-9)}, None, None)
    assert commit_page(job, listed, told.epoch)
    assert finish(job, 0, told.epoch)
    assert len(rows("SELECT id FROM feed_items")) == 1
