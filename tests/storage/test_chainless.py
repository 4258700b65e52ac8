"""Commits from a source that shows no chain: pieces of one rev, and revs that follow on nothing."""

import pytest

from server.core.errors import LeaseLost
from server.core.events import UNTOLD
from server.storage import discrepancies
from server.storage.batch import Batch
from server.storage.changes import commit_batch, void_chains
from server.storage.cursors import StreamCursor, load_cursor, load_position
from server.storage.database import rows, value
from server.storage.pages import Snapshot
from server.storage.repos import CHAINED, RECHAINED, UNCHAINED, known_revs
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    commit,
    did,
    drop,
    job_of,
    make_live,
    post,
    store_snapshot,
    tid,
    track,
)


@pytest.fixture
def stream(db, lease):
    track("alice")
    make_live("alice", epoch=lease.epoch, rev=1)
    return Stream(lease.epoch)


def say(stream, rev, *changes, since=UNTOLD):
    return stream.save(Batch(commits=[commit("alice", rev, *changes, since=since)]))


def item_keys():
    return [key for (key,) in rows("SELECT rkey FROM feed_items ORDER BY rkey")]


def test_the_pieces_of_a_commit_are_all_saved_also_in_batches_of_their_own(stream):
    say(stream, 2, post(tid(1)))
    say(stream, 2, post(tid(2)))
    say(stream, 3, drop(tid(1)))
    say(stream, 3, drop(tid(2)))
    assert item_keys() == []
    say(stream, 2, post(tid(1)))
    assert item_keys() == []


def test_pieces_that_come_again_change_nothing(stream):
    for _ in range(2):
        say(stream, 2, post(tid(1)), post(tid(2)))
        say(stream, 2, drop(tid(1)))
    assert len(item_keys()) == 1


def test_pieces_of_a_commit_that_was_told_whole_are_passed_over(stream):
    say(stream, 2, post(tid(1)), drop(tid(1)), since=1)
    say(stream, 2, post(tid(1)))
    assert item_keys() == []
    # And the chain still holds.
    assert say(stream, 4, since=3).holes


def test_what_follows_a_rev_without_a_chain_breaks_none_and_is_a_chain_again(stream):
    say(stream, 2, post(tid(1)))
    assert not say(stream, 9, since=8).holes
    assert not say(stream, 10, since=9).holes
    assert list(say(stream, 12, since=11).holes.values()) == ["chain"]


def test_a_whole_commit_completes_what_came_of_it_in_pieces(stream):
    say(stream, 2, post(tid(1)))
    say(stream, 2, post(tid(1)), post(tid(2)), since=1)
    assert len(item_keys()) == 2
    assert list(say(stream, 4, since=3).holes.values()) == ["chain"]


def test_voided_chains_forgive_one_unseen_commit_and_no_second(stream, lease):
    void_chains(lease.epoch)
    assert not say(stream, 5, since=4).holes
    assert list(say(stream, 7, since=6).holes.values()) == ["chain"]


def chain(name="alice"):
    sql = "SELECT r.is_chained FROM repos r JOIN authors a ON a.id = r.author_id WHERE a.did = ?"
    return value(sql, (did(name),))


def known():
    (one,) = discrepancies.complete_after(0, 9)
    return one


def test_a_chain_that_begins_anew_is_doubted_until_the_repo_was_compared(stream, lease):
    assert chain() == CHAINED
    say(stream, 2, post(tid(1)))
    discrepancies.vouch(known(), lease.epoch)
    assert chain() == UNCHAINED
    say(stream, 9, since=8)
    say(stream, 10, since=9)
    assert chain() == RECHAINED
    discrepancies.vouch(known(), lease.epoch)
    assert chain() == CHAINED
    say(stream, 11, since=10)
    assert chain() == CHAINED


def test_what_was_told_while_a_repo_was_compared_is_not_vouched_for(stream, lease):
    say(stream, 2, post(tid(1)))
    say(stream, 9, since=8)
    before = known()
    say(stream, 10, post(tid(2)))
    discrepancies.vouch(before, lease.epoch)
    assert chain() == UNCHAINED
    say(stream, 12, since=11)
    discrepancies.vouch(before, lease.epoch)
    assert chain() == RECHAINED


def test_a_doubted_chain_is_voided_like_any_other(stream, lease):
    say(stream, 2, post(tid(1)))
    say(stream, 9, since=8)
    void_chains(lease.epoch)
    assert not say(stream, 12, since=11).holes
    assert chain() == RECHAINED


def test_who_is_fetched_again_is_not_doubted_any_more(stream, lease):
    say(stream, 2, post(tid(1)))
    say(stream, 9, since=8)
    assert say(stream, 12, since=11).holes
    assert chain() == CHAINED


def test_a_deposed_leader_vouches_for_nobody(stream, lease):
    say(stream, 2, post(tid(1)))
    say(stream, 9, since=8)
    with pytest.raises(LeaseLost):
        discrepancies.vouch(known(), lease.epoch - 1)
    assert chain() == RECHAINED


def test_a_snapshot_must_have_the_first_commit_that_came_without_a_chain(db, lease):
    track("bob")
    stream = Stream(lease.epoch)
    stream.save(Batch(commits=[commit("bob", 5, post(tid(1)), since=UNTOLD)]))
    job = job_of("bob", lease.epoch)
    assert store_snapshot(job, 4, lease.epoch) is Snapshot.BEHIND
    assert store_snapshot(job, 5, lease.epoch) is Snapshot.STORED


def test_what_was_told_late_has_its_author_fetched_again(stream):
    result = stream.save(Batch(late={did("alice"), did("stranger")}))
    assert list(result.holes.values()) == ["told late"]


def test_all_cursors_of_a_batch_are_saved_and_the_furthest_is_the_position(stream):
    first, second = StreamCursor("a", 1, NOW_MS), StreamCursor("b", 2, NOW_MS + 1, has_chain=False)
    assert load_position() is None
    commit_batch(Batch(), first, stream.epoch, NOW_US, beside=[second])
    assert (load_cursor("a"), load_cursor("b")) == (first, second)
    assert load_position() == second
    assert load_cursor(HOST) is None


def test_known_revs_are_of_the_stream_or_of_a_snapshot(stream, lease):
    track("bob", "carol")
    assert store_snapshot(job_of("bob", lease.epoch), 7, lease.epoch) is Snapshot.STORED
    say(stream, 3, since=1)
    names = (did("alice"), did("bob"), did("carol"), did("nobody"))
    assert known_revs(names) == {names[0]: 3, names[1]: 7, names[2]: 0}
    assert value("SELECT count(*) FROM authors WHERE did = ?", (did("nobody"),)) == 0
