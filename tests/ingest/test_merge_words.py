"""Merge: words on accounts that read the same, as a host tells them whose clock stands still."""

import pytest

from server.core.events import Account, Identity, Sync
from server.ingest import merge
from server.ingest.merge import MEMORY_SECONDS
from tests.builders import NOW_MS
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
