"""Merge: words on accounts, also of a host whose clock stands still, and what waits meanwhile."""

import pytest

from server.core.events import Account, Identity, Sync
from server.ingest import merge
from server.ingest.merge import MEMORY_SECONDS
from server.storage import repos
from server.storage.database import rows
from tests.builders import NOW_MS
from tests.ingest import test_writer
from tests.ingest.test_merge import ALICE, Told


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What the database has of each repo."""
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))


def news(told, *said):
    """Of what the sources say in turn (who, and the event), which counts."""
    return [told.merge.is_new(who, event, 1.0, NOW_MS + 1000) for who, event in said]


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
    said = [(who, event) for who in ("two", "one") for event in (gone, back, away)]
    assert not any(news(told, *said))


def test_what_is_said_again_under_other_numbers_hides_nobody():
    """As by another machine of the same name."""
    told = Told()
    gone = Account(1, NOW_MS, ALICE, False, "deactivated")
    back = Account(2, NOW_MS + 1, ALICE, True, None)
    again = [
        ("one", event.__class__(7, event.time_ms, ALICE, event.active, event.status))
        for event in (gone, back)
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
