"""Merge: one source tells commits with a chain, and the one beside it the same in pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.events import UNTOLD
from server.ingest import merge
from server.ingest.merge import HOLD_SECONDS, REORDER_SECONDS
from tests.ingest.test_merge import ALICE, Told, event


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """What the database has of each repo."""
    monkeypatch.setattr(merge.repos, "known_revs", lambda dids: dict.fromkeys(dids, 1))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_told_with_a_chain_and_in_pieces_comes_whole_and_in_order(data):
    """Of what is none of ours, only the one with a chain tells."""
    kinds = data.draw(
        st.lists(st.sampled_from(("like", "post", "lost", "lost piece")), max_size=12)
    )
    delay_s = {
        "one": data.draw(st.floats(0, REORDER_SECONDS * 0.8)),
        "two": data.draw(st.floats(0, (HOLD_SECONDS - REORDER_SECONDS) * 0.8)),
    }
    telling = []
    for number, kind in enumerate(kinds):
        rev, at_s = number + 2, 100.0 + number * 0.1
        whole = event(rev, at_s=at_s)
        whole = whole._replace(ops=()) if kind == "like" else whole
        if kind != "lost":
            telling.append((at_s + delay_s["one"], "one", whole))
        if kind in ("post", "lost"):
            telling.append((at_s + delay_s["two"], "two", event(rev, has_chain=False, at_s=at_s)))
    told = Told()
    telling.sort(key=lambda one: one[0])
    for at_s, name, one in telling:
        told.tell(name, one, at_s)
        told.release(at_s)
    told.release(telling[-1][0] + HOLD_SECONDS if telling else 0)
    assert list(dict.fromkeys(told.revs)) == list(range(2, len(kinds) + 2))
    assert (told.batch.late, told.merge.held) == (set(), {})
    if "lost" not in kinds:
        chain = [commit for commit in told.batch.commits if commit.since != UNTOLD]
        assert list(told.merge.passed.values()) in ([], [(len(kinds) + 1,) * 2])
        assert len(chain) == len(kinds)


def test_what_was_told_in_pieces_waits_no_longer_when_it_is_told_with_a_chain():
    told = Told()
    told.tell("two", event(2, has_chain=False), 100.0)
    told.tell("two", event(3, has_chain=False), 100.0)
    told.release(100.0)
    assert told.revs == []
    told.tell("one", event(2), 100.1)
    told.tell("one", event(3), 100.1)
    told.release(100.1)
    assert [(one.rev, one.since) for one in told.batch.commits] == [
        *((2, 1), (2, UNTOLD)),
        *((3, 2), (3, UNTOLD)),
    ]


def test_a_source_with_a_chain_that_is_behind_has_nobody_fetched_for_what_was_told_in_pieces():
    told = Told()
    for rev in (3, 4):
        told.tell("two", event(rev, has_chain=False), 100.0)
    told.release(100.0 + REORDER_SECONDS)
    like = event(2)._replace(ops=())
    for one in (like, event(3), event(4)):
        told.tell("one", one, 110.0)
    told.release(110.0)
    assert (told.batch.late, told.merge.held) == (set(), {})
    # Of what comes next, the one with the pieces lost something.
    told.tell("two", event(6, has_chain=False), 120.0)
    told.release(120.0 + REORDER_SECONDS)
    told.tell("one", event(5), 130.0)
    told.release(130.0)
    assert told.batch.late == {ALICE}


@pytest.mark.parametrize("is_whole_first", [True, False])
def test_what_comes_late_in_both_forms_at_once_has_its_author_fetched(is_whole_first):
    told = Told()
    told.tell("two", event(3, has_chain=False), 100.0)
    told.release(100.0 + REORDER_SECONDS)
    forms = [("one", event(2)), ("two", event(2, has_chain=False))]
    for source, one in forms if is_whole_first else reversed(forms):
        told.tell(source, one, 110.0)
    told.release(110.0)
    told.release(110.0 + REORDER_SECONDS)
    assert (told.batch.late, told.merge.held) == ({ALICE}, {})


@pytest.mark.parametrize("waited_s", [0.0, HOLD_SECONDS])
def test_a_chain_that_begins_again_does_not_vouch_for_what_both_lost_before(waited_s):
    """The database takes its first commit on trust: so does nobody here."""
    told = Told()
    told.tell("two", event(2, has_chain=False), 100.0)
    told.release(100.0 + REORDER_SECONDS)
    if not waited_s:
        # And it tells what the other one did.
        told.tell("two", event(4, has_chain=False), 100.0)
        told.release(100.0 + REORDER_SECONDS)
    told.tell("one", event(4), 103.0)
    told.release(103.0 + waited_s)
    assert told.revs[0] == 2
    assert told.merge.passed == {ALICE: (4, 1)}
    told.tell("two", event(3, has_chain=False), 110.0)
    told.release(110.0 + REORDER_SECONDS)
    assert (told.batch.late, told.merge.held) == ({ALICE}, {})


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_chain_that_breaks_is_not_covered_up_by_what_comes_in_pieces(first):
    """The database sees that it is broken, for nothing without a chain was saved before."""
    told = Told()
    forms = {"one": event(4), "two": event(4, has_chain=False)}
    for source in (first, *forms.keys() - {first}):
        told.tell(source, forms[source], 100.0)
    told.release(100.0)
    told.release(100.0 + REORDER_SECONDS)
    told.release(100.0 + HOLD_SECONDS)
    assert [one.since for one in told.batch.commits] == [3, UNTOLD]
    assert told.merge.held == {}
