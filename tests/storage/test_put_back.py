"""A repo that its PDS puts back to an earlier rev, as a `#sync` says: what was deleted is there."""

import pytest

from server.core.syntax import POST, datetime_ms, tid_to_int
from server.storage.batch import Batch
from server.storage.database import rows
from server.storage.page_rows import Page
from tests.builders import (
    NOW_MS,
    Stream,
    commit,
    commit_page,
    did,
    drop,
    finish,
    job_of,
    make_live,
    post,
    store_snapshot,
    tid,
    track,
)

A_POST = tid(0)


@pytest.fixture
def stream(db, lease):
    track("alice", "ben")
    make_live("alice", "ben", epoch=lease.epoch)
    return Stream(lease.epoch)


def at(ms, *changes, since=0, name="alice"):
    """The commit of that moment after NOW_MS, by its rev."""
    return commit(name, tid_to_int(tid(ms)), *changes, since=since and tid_to_int(tid(since)))


def sync(ms, said_ms, name="alice"):
    """That the repo stands at the commit of a moment, said at another."""
    batch = Batch()
    batch.add_sync(did(name), tid_to_int(tid(ms)), NOW_MS + said_ms)
    return batch


def read_anew(stream, ms, *listed):
    """Fetch alice's repo from a PDS that has it as of that moment, with these posts."""
    job = job_of("alice", stream.epoch)
    store_snapshot(job, tid_to_int(tid(ms)), stream.epoch)
    page = Page(POST, [post(rkey) for rkey in listed], set(listed), None, None)
    assert commit_page(job, page, stream.epoch)
    assert finish(job, 0, stream.epoch)


def posts():
    return rows("SELECT count(*) FROM feed_items")[0][0]


def say_and_take_back(stream, name="alice"):
    stream.save(Batch(commits=[at(50, post(A_POST), name=name)]))
    stream.save(Batch(commits=[at(70, drop(A_POST), since=50, name=name)]))
    assert posts() == 0


def test_what_was_deleted_before_a_repo_was_put_back_is_there_again(stream):
    say_and_take_back(stream)
    stream.save(sync(50, said_ms=90))
    read_anew(stream, 50, A_POST)
    assert posts() == 1


def test_a_repo_that_is_put_back_at_the_end_of_all_time_stops_nobody(stream):
    say_and_take_back(stream)
    end_ms = datetime_ms("9999-12-31T23:59:59.999Z")
    stream.save(sync(50, said_ms=end_ms - NOW_MS))
    read_anew(stream, 50, A_POST)
    assert posts() == 1


def test_what_was_made_before_a_repo_was_put_back_is_gone_again(stream):
    # Marked as alive: nothing of the repo is fetched at that time.
    stream.save(Batch(resets={did("alice")}))
    stream.save(Batch(commits=[at(70, post(A_POST))]))
    stream.save(sync(50, said_ms=90))
    read_anew(stream, 50)
    assert posts() == 0


def test_a_repo_that_was_put_back_puts_back_nobody_elses(stream):
    say_and_take_back(stream)
    stream.save(sync(50, said_ms=90, name="ben"))
    stream.save(Batch(resets={did("alice")}))
    read_anew(stream, 50, A_POST)
    assert posts() == 0


def test_a_replay_of_what_was_before_brings_back_nothing_that_was_deleted(stream):
    stream.save(Batch(commits=[at(40, post(A_POST))]))
    stream.save(Batch(commits=[at(70, drop(A_POST), since=40)]))
    stream.save(sync(50, said_ms=90))
    stream.save(Batch(commits=[at(40, post(A_POST))]))
    assert posts() == 0


@pytest.mark.parametrize("said_ms", [60, 69])
def test_a_word_of_the_past_takes_no_later_deletion_back(stream, said_ms):
    """It is told again, or by a source that is behind; then what came next is told again, too."""
    say_and_take_back(stream)
    stream.save(sync(40, said_ms))
    stream.save(Batch(commits=[at(50, post(A_POST), since=40)]))
    assert posts() == 0
    read_anew(stream, 40, A_POST)
    assert posts() == 0


def test_a_word_without_a_rev_takes_nothing_back(stream):
    say_and_take_back(stream)
    batch = Batch()
    batch.add_sync(did("alice"))
    stream.save(batch)
    read_anew(stream, 50, A_POST)
    assert posts() == 0


def test_what_is_told_after_the_word_counts_in_whatever_batches_it_comes(stream):
    say_and_take_back(stream)
    batch = sync(50, said_ms=90)
    batch.add_commit(at(100, post(A_POST), since=50))
    batch.add_commit(at(110, drop(A_POST), since=100))
    stream.save(batch)
    read_anew(stream, 50, A_POST)
    assert posts() == 0
