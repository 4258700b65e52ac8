"""Comparison: who is far behind makes nobody a loser."""

import pytest

from server.ingest import merge
from server.ingest.comparison import JUDGE_SECONDS
from tests.builders import NOW_MS
from tests.ingest.test_merge import Told, event


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What the database has of each repo."""
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))


@pytest.mark.parametrize("has_chain", [True, False])
@pytest.mark.parametrize("has_chain_beside", [True, False])
def test_what_a_source_told_half_a_minute_before_the_other_is_not_missing_from_it(
    has_chain, has_chain_beside
):
    told, judged_s = Told(), 101.0 + JUDGE_SECONDS
    told.tell("one", event(2, has_chain=has_chain), 100.0)
    told.release(100.0)
    behind = NOW_MS + 90_000
    told.comparison.judge({"one": NOW_MS + int(judged_s * 1000), "two": behind}, judged_s)
    one, two = told.counters["one"], told.counters["two"]
    assert (one.told, two.missing) == (1, 0)
    told.tell("two", event(2, has_chain=has_chain_beside), judged_s + 1)
    told.release(judged_s + 2 + JUDGE_SECONDS)
    assert (one.told, one.missing) == (1, 0)
