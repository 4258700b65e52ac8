"""commit_batch: rows and cursor together, once, whatever is repeated."""

import pytest

from server.core.errors import LeaseLost
from server.core.projection import MEDIA, RecordRef, SaveItem, sort_key
from server.core.syntax import POST, REPOST
from server.storage import changes, items, jobs, leases, pages
from server.storage.batch import Batch
from server.storage.changes import commit_batch, commit_gap
from server.storage.cursors import StreamCursor, load_cursor
from server.storage.database import DatabaseError, execute, rows, value
from server.storage.gaps import open_gaps
from server.storage.pages import Snapshot
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    commit,
    did,
    drop,
    finish,
    job_of,
    make_live,
    number_of,
    post,
    repost,
    store_snapshot,
    tid,
    track,
)


@pytest.fixture
def stream(db, lease):
    track("alice")
    make_live("alice", epoch=lease.epoch)
    return Stream(lease.epoch)


def keys():
    return [key for (key,) in rows("SELECT id FROM feed_items ORDER BY id DESC")]


def places():
    return [key >> 21 for key in keys()]


def everything():
    tables = ("feed_items", "tombstones", "repos", "follows", "gaps", "backfill_jobs")
    return {name: sorted(rows(f"SELECT * FROM {name}")) for name in tables}  # noqa: S608


def test_rows_and_cursor_are_saved_together(stream):
    result = stream.say("alice", post(tid(1)), repost(tid(2), ("bob", tid(0))))
    assert (result.saved, result.dropped, result.holes) == (2, 0, {})
    assert len(keys()) == 2
    assert load_cursor(HOST) == StreamCursor(HOST, 1, NOW_MS)


def test_a_failure_saves_neither_rows_nor_cursor(stream, monkeypatch):
    def fail(*_):
        raise DatabaseError("gone")

    monkeypatch.setattr(changes, "save_cursor", fail)
    before = everything()
    with pytest.raises(DatabaseError):
        stream.say("alice", post(tid(1)))
    assert everything() == before
    assert load_cursor(HOST) is None


def test_running_a_batch_again_changes_nothing(stream):
    batch = Batch(commits=[stream.next("alice", post(tid(1)), drop(tid(2)))])
    batch.commits.append(stream.next("alice", drop(tid(1)), post(tid(1), NOW_MS - 5)))
    stream.save(batch)
    before = everything()
    assert stream.save(batch).saved == 0
    assert everything() == before


def test_a_deleted_record_stays_deleted_when_the_repo_is_read_anew(stream):
    stream.say("alice", post(tid(1)))
    stream.say("alice", drop(tid(1)))
    # After the reset our rev of the repo is unknown, so that a replay is not passed over.
    commit_gap(HOST, "test", 0, 1, stream.epoch, NOW_US)
    stream.save(Batch(commits=[commit("alice", 1, post(tid(1)))]))
    assert keys() == []


def test_a_key_that_is_used_again_is_a_new_record_with_a_place_of_its_own(stream):
    stream.say("alice", post(tid(1), NOW_MS - 1000))
    stream.say("alice", drop(tid(1)))
    stream.say("alice", post(tid(1), NOW_MS - 10))
    assert places() == [NOW_MS - 10]
    assert value("SELECT count(*) FROM tombstones") == 0


@pytest.mark.parametrize("is_one_commit", [True, False])
def test_delete_and_create_in_one_batch_make_a_new_record(stream, is_one_commit):
    stream.say("alice", post(tid(1), NOW_MS - 1000))
    again = (drop(tid(1)), post(tid(1), NOW_MS - 10))
    commits = [stream.next("alice", *again)]
    if not is_one_commit:
        commits = [stream.next("alice", change) for change in (*again, post(tid(1), NOW_MS - 5))]
    stream.save(Batch(commits=commits))
    assert places() == [NOW_MS - 10]


def test_a_record_that_is_created_and_deleted_in_one_batch_is_gone(stream):
    stream.say("alice", post(tid(1)), drop(tid(1)))
    assert keys() == []
    assert value("SELECT count(*) FROM tombstones") == 1


def test_an_edit_keeps_the_place_or_sinks_to_an_earlier_date(stream):
    stream.say("alice", post(tid(1), NOW_MS, tie=7))
    place = keys()
    stream.say("alice", post(tid(1), NOW_MS + 60_000, tie=9))
    assert keys() == place
    stream.say("alice", post(tid(1), NOW_MS - 60_000, tie=9))
    assert keys() == [sort_key(NOW_MS - 60_000, 9)]


@pytest.mark.parametrize("is_known", [True, False])
def test_edits_end_at_the_same_place_in_one_batch_or_in_several(stream, is_known):
    track("bob")
    make_live("bob", epoch=stream.epoch)
    edits = [post(tid(1), NOW_MS - 10), post(tid(1), NOW_MS - 30), post(tid(1), NOW_MS - 20)]
    for name in ("alice", "bob") if is_known else ():
        stream.say(name, post(tid(1), NOW_MS))
    for edit in edits:
        stream.say("alice", edit)
    stream.save(Batch(commits=[stream.next("bob", edit) for edit in edits]))
    assert places() == [NOW_MS - 30, NOW_MS - 30]


def test_an_edit_changes_what_the_row_says(stream):
    stream.say("alice", post(tid(1)))
    ref = RecordRef(did("bob"), tid(0))
    stream.say("alice", SaveItem(POST, tid(1), NOW_MS, NOW_MS, 0, MEDIA, ref, None))
    found = rows("SELECT flags, subject_id FROM feed_items")
    assert found == [(MEDIA, number_of("bob"))]


def test_equal_places_are_told_apart_and_none_is_lost(stream):
    track("bob")
    make_live("bob", epoch=stream.epoch)
    for number in range(5):
        stream.say("alice", post(tid(number), tie=3), repost(tid(number), ("bob", tid(0)), tie=3))
    stream.save(
        Batch(commits=[stream.next("bob", *(post(tid(number), tie=3) for number in range(30)))])
    )
    base = sort_key(NOW_MS, 3)
    assert sorted(keys()) == list(range(base, base + 40))


def test_more_equals_than_anybody_writes_do_not_stop_the_stream(stream, monkeypatch):
    # What an attacker gets with equal records under many keys; fewer here, to be quick.
    monkeypatch.setattr(items, "MAX_EQUALS", 50)
    monkeypatch.setattr(items, "WINDOW_KEYS", 16)
    for start in (0, 30, 60):
        stream.say("alice", *(post(tid(number), tie=3) for number in range(start, start + 30)))
    assert 50 < len(keys()) < 90
    stream.say("alice", post(tid(1000), NOW_MS + 1))
    assert places()[0] == NOW_MS + 1
    # It goes where there is no place left.
    stream.say("alice", post(tid(1000), tie=3))
    assert value("SELECT newest_id FROM repos") == keys()[0] < NOW_MS + 1 << 21


def test_odd_record_keys_are_keys_like_others(stream):
    odd = ("self", "3jzfcijpj2z2", "A.b_c~d:e-f", "x" * 512, "zzzzzzzzzzzzz")
    stream.say("alice", *(post(key, NOW_MS - n) for n, key in enumerate(odd)))
    assert len(keys()) == len(odd)
    stream.say("alice", *(drop(key) for key in odd))
    assert keys() == []


def test_one_key_in_two_collections_names_two_records(stream):
    stream.say("alice", post(tid(1)), repost(tid(1), ("bob", tid(0)), NOW_MS - 1))
    stream.say("alice", drop(tid(1), REPOST))
    assert rows("SELECT flags FROM feed_items") == [(0,)]


def test_a_commit_of_a_repo_that_nobody_tracks_writes_nothing(stream):
    stream.say("stranger", post(tid(1)), drop(tid(2)))
    assert keys() == []
    assert value("SELECT count(*) FROM tombstones") == 0


@pytest.mark.parametrize(
    ("reason", "since", "hole"), [("chain", 7, None), ("tooBig", 1, "tooBig"), ("chain", 0, "x")]
)
def test_a_broken_chain_or_a_hole_opens_a_gap_and_is_still_applied(stream, reason, since, hole):
    stream.say("alice", post(tid(1)))
    broken = commit("alice", 9, post(tid(2), NOW_MS - 1), since=since, hole=hole)
    assert stream.save(Batch(commits=[broken])).holes == {number_of("alice"): reason}
    assert len(keys()) == 2
    assert [(gap.did, gap.reason) for gap in open_gaps(9)] == [(did("alice"), reason)]
    job = job_of("alice", stream.epoch)
    assert job is not None
    assert job.snapshot_rev == 0


@pytest.mark.parametrize(("since", "hole"), [(7, None), (1, "tooBig")])
def test_a_snapshot_after_a_hole_has_all_commits_that_were_seen(stream, since, hole):
    stream.say("alice", post(tid(1)))
    broken = commit("alice", 9, post(tid(2)), since=since, hole=hole)
    stream.save(Batch(commits=[broken, commit("alice", 10, post(tid(3)), since=9)]))
    job = job_of("alice", stream.epoch)
    # An older one would take away what is written: in this state of the PDS it is not there yet.
    assert store_snapshot(job, 9, stream.epoch) is Snapshot.BEHIND
    assert len(keys()) == 3
    assert store_snapshot(job, 10, stream.epoch) is Snapshot.STORED
    assert finish(job, 0, stream.epoch)
    assert not stream.save(Batch(commits=[commit("alice", 11, since=10)])).holes


def test_after_a_sync_any_snapshot_will_do_since_a_repo_may_have_been_put_back(stream):
    stream.say("alice")
    stream.save(Batch(commits=[commit("alice", 9, since=7)]))
    assert store_snapshot(job_of("alice", stream.epoch), 5, stream.epoch) is Snapshot.BEHIND
    stream.save(Batch(commits=[commit("alice", 12, since=10)], resets={did("alice")}))
    assert store_snapshot(job_of("alice", stream.epoch), 5, stream.epoch) is Snapshot.STORED


def test_a_pds_that_stays_behind_is_believed_in_the_end(stream, monkeypatch):
    monkeypatch.setattr(pages, "BEHIND_ATTEMPTS", 2)
    stream.say("alice")
    stream.save(Batch(commits=[commit("alice", 9, post(tid(1)), since=7)]))
    for _ in range(2):
        job = job_of("alice", stream.epoch)
        assert store_snapshot(job, 5, stream.epoch) is Snapshot.BEHIND
        jobs.fail(job, "behind", NOW_US)
    job = job_of("alice", stream.epoch)
    assert store_snapshot(job, 5, stream.epoch) is Snapshot.STORED
    assert finish(job, 0, stream.epoch)
    # It goes on from what the PDS has.
    assert not stream.save(Batch(commits=[commit("alice", 11, since=5)])).holes


def test_an_author_with_an_open_gap_gets_no_second_one(stream):
    for since in (5, 6):
        stream.save(Batch(commits=[commit("alice", since + 4, since=since)]))
        stream.save(Batch(resets={did("alice")}))
    assert len(open_gaps(9)) == 1


def test_a_sync_event_queues_the_author(stream):
    stream.save(Batch(resets={did("alice"), did("stranger")}))
    assert [(gap.did, gap.reason) for gap in open_gaps(9)] == [(did("alice"), "sync")]
    assert job_of("alice", stream.epoch) is not None


def test_old_marks_win_over_a_replay_in_whatever_batches_it_comes(stream):
    # Made while nothing of the repo was fetched, so marked as alive at its rev.
    stream.save(Batch(resets={did("alice")}))
    stream.save(Batch(commits=[commit("alice", 10, post(tid(1)), since=9)]))
    stream.save(Batch(resets={did("alice")}))
    replay = [commit("alice", 5, drop(tid(1))), commit("alice", 6, post(tid(1)), since=5)]
    stream.save(Batch(commits=replay))
    assert len(keys()) == 1


def test_a_deposed_leader_writes_nothing(stream):
    before = everything()
    execute("UPDATE leases SET epoch = epoch + 1")
    with pytest.raises(LeaseLost):
        stream.say("alice", post(tid(1)))
    with pytest.raises(LeaseLost):
        commit_gap(HOST, "test", 0, 1, stream.epoch, NOW_US)
    assert everything() == before
    assert load_cursor(HOST) is None
    assert leases.leader().epoch == stream.epoch + 1


def test_a_large_batch_is_saved_whole(stream):
    batch = Batch(
        commits=[
            stream.next(
                "alice", *(post(tid(n), NOW_MS - n, tie=n % 5) for n in range(base, base + 200))
            )
            for base in range(0, 4000, 200)
        ]
    )
    assert stream.save(batch).saved == 4000
    assert len(set(keys())) == 4000


def test_a_cursor_alone_moves(stream):
    cursor = StreamCursor(HOST, 99, NOW_MS)
    commit_batch(Batch(), cursor, stream.epoch, NOW_US)
    assert load_cursor(HOST) == cursor
    assert load_cursor("other.test") is None
