"""Merge and Comparison: what two sources tell, with losses and delays, comes out whole."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.events import UNTOLD, Account, Commit, RecordOp, Sync
from server.core.metrics import IngestMetrics
from server.ingest import comparison, merge
from server.ingest.comparison import JUDGE_SECONDS, REPORT_SECONDS, Comparison
from server.ingest.counters import SourceCounters
from server.ingest.merge import HOLD_SECONDS, MEMORY_SECONDS, REORDER_SECONDS, Merge
from server.storage.batch import Batch, RepoCommit
from tests.builders import NOW_MS, did, tid

ALICE = did("alice")
POST = "app.bsky.feed.post"


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What the database has of each repo."""
    revs = {ALICE: 1}
    monkeypatch.setattr(
        merge.repos, "known_revs", lambda dids: {one: revs.get(one, 0) for one in dids}
    )
    return revs


def event(rev, *, has_chain=True, repo=ALICE, at_s=100.0):
    ops = (RecordOp(POST, tid(rev), None, None),)
    since = rev - 1 if has_chain else UNTOLD
    return Commit(rev, NOW_MS + int(at_s * 1000), repo, rev, since, ops)


class Told:
    """Two sources that tell a merge what they tell, and what came out."""

    def __init__(self):
        self.counters = {"one": SourceCounters(), "two": SourceCounters()}
        self.metrics = IngestMetrics()
        self.comparison = Comparison(self.counters, self.metrics, 0.0)
        self.merge = Merge(self.comparison, 0.0, NOW_MS)
        self.batch = Batch()
        for name in self.counters:
            self.comparison.connected(name, 0.0)

    def tell(self, source, told, now_s):
        if self.merge.is_new(source, told, now_s, NOW_MS + int(now_s * 1000)):
            commit = RepoCommit(told.repo, told.rev, told.since, (), None)
            self.merge.hold(source, told, commit, now_s, told.time_ms)

    def release(self, now_s):
        self.merge.release(self.batch, now_s, NOW_MS + int(now_s * 1000))
        reached = dict.fromkeys(self.counters, NOW_MS + int(now_s * 1000))
        self.comparison.judge(reached, now_s)

    @property
    def revs(self):
        return [commit.rev for commit in self.batch.commits]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), has_chain=st.booleans())
def test_what_one_loses_the_other_brings_whole_and_in_order(data, has_chain):
    count = data.draw(st.integers(1, 12))
    longest_s = HOLD_SECONDS if has_chain else REORDER_SECONDS
    lost = [data.draw(st.sampled_from(("", "one", "two"))) for _ in range(count)]
    telling = []
    for name in ("one", "two"):
        delay_s = data.draw(st.floats(0, longest_s * 0.8))
        for number in range(count):
            if lost[number] != name:
                at_s = 100.0 + number * 0.1
                told = event(number + 2, has_chain=has_chain, at_s=at_s)
                telling.append((at_s + delay_s, name, told))
    told = Told()
    telling.sort(key=lambda one: one[0])
    for at_s, name, one in telling:
        told.tell(name, one, at_s)
        told.release(at_s)
        held = told.merge.held_seq(name)
        assert held is None or held > max(told.revs, default=0)
    end_s = telling[-1][0] if telling else 0
    told.release(end_s + longest_s)
    assert told.revs == list(range(2, count + 2))
    assert (told.batch.late, told.merge.held) == (set(), {})


def test_a_commit_that_everybody_lost_is_waited_for_and_then_passed_over():
    told = Told()
    for name in ("one", "two"):
        told.tell(name, event(2), 100.0)
        told.tell(name, event(4), 100.0)
    told.release(100.0)
    assert told.revs == [2]
    assert [told.merge.held_seq(name) for name in ("one", "two")] == [4, 4]
    told.release(100.0 + HOLD_SECONDS)
    assert told.revs == [2, 4]


def test_a_first_commit_follows_on_what_the_database_has():
    told = Told()
    told.tell("one", event(3), 100.0)
    told.release(100.0)
    assert told.revs == []
    told.tell("two", event(2), 101.0)
    told.release(101.0)
    assert told.revs == [2, 3]


def test_a_commit_without_a_chain_that_comes_too_late_has_its_author_fetched():
    told = Told()
    told.tell("one", event(1, has_chain=False), 100.0)
    told.tell("one", event(3, has_chain=False), 100.0)
    told.release(100.0 + REORDER_SECONDS)
    told.tell("two", event(2, has_chain=False), 110.0)
    told.release(110.0 + REORDER_SECONDS)
    assert told.batch.late == {ALICE}


def test_a_replay_of_what_is_not_remembered_any_more_is_not_late():
    told, later_s = Told(), 100.0 + MEMORY_SECONDS * 2
    told.tell("one", event(1, has_chain=False), 100.0)
    told.tell("one", event(9, has_chain=False, at_s=later_s), later_s)
    told.release(later_s + REORDER_SECONDS)
    told.tell("two", event(1, has_chain=False), later_s + 5)
    told.tell("two", event(2, has_chain=False), later_s + 5)
    told.release(later_s + 20)
    assert told.batch.late == set()


def test_news_of_an_account_are_taken_once():
    told = Told()
    news = [Account(1, NOW_MS, ALICE, False, "deactivated"), Sync(2, NOW_MS, ALICE)]
    assert [told.merge.is_new("one", one, 1.0, NOW_MS) for one in news] == [True, True]
    assert [told.merge.is_new("two", one, 2.0, NOW_MS) for one in news] == [False, False]
    back = Account(3, NOW_MS + 1, ALICE, True, None)
    assert told.merge.is_new("two", back, 3.0, NOW_MS)


def hidden(at_s, seq=1):
    return Account(seq, NOW_MS + int(at_s * 1000), ALICE, False, "deactivated")


def shown(at_s, seq=1):
    return Account(seq, NOW_MS + int(at_s * 1000), ALICE, True, None)


def is_shown_after(told, *said):
    """What the account is when each source has told in turn; a source, the event, and when."""
    state = True
    for source, one, now_s in said:
        if told.merge.is_new(source, one, now_s, NOW_MS + int(now_s * 1000)):
            state = one.active
        told.merge.release(told.batch, now_s, NOW_MS + int(now_s * 1000))
    return state


def test_who_was_told_to_be_back_by_one_that_lost_the_going_stays_there():
    said = [("two", shown(1), 1.0), ("one", hidden(0), 1.5), ("one", shown(1), 1.5)]
    assert is_shown_after(Told(), *said)


def test_a_source_that_tells_again_what_is_forgotten_hides_nobody():
    back_s, late_s = MEMORY_SECONDS * 0.8, MEMORY_SECONDS * 1.6
    told = Told()
    assert is_shown_after(told, ("two", hidden(0), 0.0), ("two", shown(back_s), back_s))
    told.release(late_s)
    assert len(told.merge.seen) == 1
    assert is_shown_after(told, ("one", hidden(0), late_s), ("one", shown(back_s), late_s))


def test_in_one_source_the_order_counts_whatever_the_clocks_say():
    """As when somebody moves between two hosts, of which one has a clock that is behind."""
    said = [("two", hidden(60), 61.0), ("one", hidden(60), 62.0), ("one", shown(5), 63.0)]
    assert is_shown_after(Told(), *said, ("two", shown(5), 64.0))
    assert not is_shown_after(Told(), *said, ("two", hidden(90), 90.0))


def test_what_is_refused_to_one_that_lost_the_last_word_is_taken_from_one_that_told_it():
    """The new host's clock is behind, and "two" lost the going."""
    said = [("one", hidden(60), 60.5), ("two", shown(5), 61.0), ("one", shown(5), 61.2)]
    assert is_shown_after(Told(), *said)
    assert not is_shown_after(Told(), *said[:2], ("two", shown(5), 61.2))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_source_that_tells_the_same_again_and_again_hides_nobody(is_first):
    """Of what it tells, only the older half is forgotten here."""
    back_s, late_s = MEMORY_SECONDS * 0.8, MEMORY_SECONDS * 1.1
    said = [("one", hidden(0, seq=7), late_s), ("one", shown(back_s, seq=8), late_s)]
    told = Told()
    for teller in ("one", "two") if is_first else ("two",):
        is_shown_after(
            told, (teller, hidden(0, seq=7), 0.0), (teller, shown(back_s, seq=8), back_s)
        )
    told.release(late_s)
    assert len(told.merge.seen) == 1
    assert is_shown_after(told, *said, *said)


def test_a_clock_that_is_ahead_has_the_last_word_only_until_it_is_that_late():
    said = [("two", shown(9_000_000), 1.0), ("one", hidden(60), 60.0)]
    assert not is_shown_after(Told(), *said)


def test_memory_is_bounded_and_what_it_lost_is_not_judged(monkeypatch):
    monkeypatch.setattr(merge, "MAX_EVENTS", 10)
    told = Told()
    for rev in range(1, 100):
        told.tell("one", event(rev, at_s=100.0 + rev), 100.0 + rev)
        told.release(100.0 + rev)
    assert len(told.merge.seen) <= 10
    assert len(told.merge.passed) <= 10
    for number in range(100):
        news = Account(1, NOW_MS, did(f"author{number}"), False, None)
        assert told.merge.is_new("one", news, 300.0, NOW_MS)
    told.release(300.0)
    assert len(told.merge.words) <= 10
    assert told.merge.covered_from_ms > NOW_MS


def test_a_loss_is_counted_for_who_lost_it_and_told_in_the_log(caplog):
    caplog.set_level(logging.INFO, logger=comparison.__name__)
    told = Told()
    for rev in range(1, 101):
        at_s = 100.0 + rev / 10
        told.tell("one", event(rev, at_s=at_s), at_s)
        if rev % 50:
            told.tell("two", event(rev, at_s=at_s), at_s + 0.25)
    told.release(111.0 + JUDGE_SECONDS + REPORT_SECONDS)
    one, two = told.counters["one"], told.counters["two"]
    assert (one.told, one.missing, one.late_ms) == (100, 0, 0)
    assert (two.told, two.missing) == (98, 2)
    assert two.late_ms == pytest.approx(98 * 250, rel=0.01)
    of = told.metrics.registry.get_sample_value
    for source, outcome, count in (
        ("one", "first", 100),
        ("one", "late", 0),
        ("one", "missing", 0),
        ("two", "first", 0),
        ("two", "late", 98),
        ("two", "missing", 2),
    ):
        labels = {"source": source, "outcome": outcome}
        assert of("gapless_hedged_events_total", labels) == count, labels
    assert of("gapless_hedged_delay_seconds_count", {"source": "one"}) == 0
    assert of("gapless_hedged_delay_seconds_count", {"source": "two"}) == 98
    assert of("gapless_hedged_delay_seconds_sum", {"source": "two"}) == pytest.approx(98 * 0.25)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(
        "source loses events source=two missing=2 percent=2.00 told=98 late_ms=2"
    )


def test_who_was_away_or_is_still_behind_is_not_judged():
    told = Told()
    told.comparison.ended("two")
    told.tell("one", event(1), 100.0)
    told.comparison.connected("two", 101.0)
    told.release(101.0 + JUDGE_SECONDS)
    assert told.counters["two"].missing == 0
    told.tell("one", event(2, at_s=200.0), 200.0)
    told.comparison.judge(dict.fromkeys(told.counters, NOW_MS), 200.0 + JUDGE_SECONDS)
    assert (told.counters["one"].told, told.counters["two"].missing) == (2, 0)
