"""Retention, tombstones, jobs, gaps, names and viewers: what the schedule and the pages rely on."""

import pytest

from server.core.projection import sort_key
from server.core.syntax import FOLLOW
from server.storage import gaps, jobs, outside_posts, repos, retention, tombstones, viewers
from server.storage.authors import (
    author_did,
    author_id,
    author_ids,
    load_identity,
    outdate_identities,
    save_identity,
)
from server.storage.batch import Batch
from server.storage.changes import commit_gap
from server.storage.database import execute, rows, value, write_transaction
from server.storage.jobs import Progress
from server.storage.rkeys import decode_rkeys, encode_rkeys
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    job_of,
    make_live,
    number_of,
    post,
    repost,
    tid,
    track,
    unfollow,
)

DAY_MS = 86_400_000


@pytest.fixture
def stream(db, lease):
    return Stream(lease.epoch)


def test_old_items_go_but_for_the_newest_hundred(stream):
    track("alice", "quiet")
    make_live("alice", "quiet", epoch=stream.epoch)
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    stream.say("quiet", *(post(tid(-n), NOW_MS - n * 1000) for n in range(10)))
    assert retention.authors_after(0, 9) == sorted([number_of("alice"), number_of("quiet")])
    assert retention.trim(number_of("alice"), NOW_MS - 120_000) == 29
    assert retention.trim(number_of("alice"), NOW_MS) == 21
    assert retention.trim(number_of("alice"), NOW_MS) == 0
    assert retention.trim(number_of("quiet"), NOW_MS) == 0
    assert value("SELECT count(*) FROM feed_items") == 110


def test_whose_items_are_all_kept_is_not_touched(stream):
    track("alice")
    make_live("alice", epoch=stream.epoch)
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    touched = "SELECT count(*) FROM touched"
    before = value(touched)
    assert retention.trim(number_of("alice"), NOW_MS - 200_000) == 0
    assert value(touched) == before
    assert retention.trim(number_of("alice"), NOW_MS) == 50
    assert value(touched) == before + 1


def test_what_was_let_go_is_known_to_have_been_there(stream):
    track("alice")
    make_live("alice", epoch=stream.epoch)
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    retention.trim(number_of("alice"), NOW_MS)
    horizon = value("SELECT horizon_rkey FROM repos WHERE author_id = ?", (number_of("alice"),))
    assert horizon == encode_rkeys([tid(-100)])[tid(-100)]


def test_an_author_under_backfill_is_not_trimmed(stream):
    track("alice")
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    assert retention.authors_after(0, 9) == []
    assert retention.trim(number_of("alice"), NOW_MS) == 0


def test_tombstones_are_forgotten_when_they_are_old(stream):
    track("alice")
    make_live("alice", epoch=stream.epoch)
    stream.save(Batch(commits=[stream.next("alice", drop(tid(1)))]), now_us=NOW_US)
    stream.save(Batch(commits=[stream.next("alice", drop(tid(2)))]), now_us=NOW_US + 10)
    assert tombstones.expire(NOW_US + 5) == 1
    (key,) = [row[1] for row in rows("SELECT author_id, rkey FROM tombstones")]
    assert decode_rkeys([key])[key] == tid(2)


@pytest.mark.parametrize("state", [outside_posts.THERE, outside_posts.MISSING])
def test_what_was_asked_of_a_stranger_is_kept_as_long_as_the_newest_reply(stream, state):
    parent = ("stranger", tid(0))
    month = 30 * DAY_MS
    track("alice")
    make_live("alice", epoch=stream.epoch)
    stream.say("alice", post(tid(1), NOW_MS, parent=parent))
    (asked,) = outside_posts.due(NOW_US, 9)
    outside_posts.settle(asked, state, number_of("grandparent"))
    # An older one, which a backfill brings, takes nothing away.
    late_ms = NOW_MS + month - DAY_MS
    for at_ms in (late_ms, NOW_MS - DAY_MS):
        stream.say("alice", post(tid(at_ms - NOW_MS), at_ms, parent=parent))
    known = [(state, number_of("grandparent"))]
    assert outside_posts.expire(sort_key(late_ms, 0)) == 0
    assert rows("SELECT state, parent_id FROM outside_posts") == known
    assert outside_posts.due(NOW_US, 9) == []
    assert outside_posts.expire(sort_key(late_ms + 1, 0)) == 1


def test_a_job_runs_only_when_the_reader_has_its_repo(db, lease):
    track("alice")
    assert jobs.due(NOW_US, 9, ()) == []
    from_reader = list(repos.tracked_since(0))[-1].tracked_version
    execute("UPDATE leases SET confirmed_version = ?", (from_reader - 1,))
    assert jobs.due(NOW_US, 9, ()) == []
    execute("UPDATE leases SET confirmed_version = ?", (from_reader,))
    assert [job.did for job in jobs.due(NOW_US, 9, ())] == [did("alice")]
    assert jobs.due(NOW_US - 1, 9, ()) == []


def test_jobs_come_in_order_of_who_waits_for_them(db, lease):
    track("author")
    track("viewer", wants=repos.ITEMS | repos.FOLLOWS)
    first = job_of("viewer", lease.epoch)
    assert [job.did for job in jobs.due(NOW_US, 9, ())] == [did("viewer"), did("author")]
    assert first.wants == repos.ITEMS | repos.FOLLOWS


def test_a_busy_host_is_spared_and_unknown_ones_are_not(db, lease):
    track("alice", "bob", "carol")
    for name, host in (("alice", "https://a.test"), ("bob", "https://b.test")):
        save_identity(did(name), None, host, None, 1)
    job_of("alice", lease.epoch)
    due = {job.did for job in jobs.due(NOW_US, 9, ["https://a.test"])}
    assert due == {did("bob"), did("carol")}


def test_a_job_that_fails_waits_and_remembers_where_it_was(db, lease):
    track("alice")
    job = job_of("alice", lease.epoch)
    with write_transaction():
        jobs.save_progress([(job, Progress({FOLLOW: "x"}), 1)], NOW_US)
    jobs.fail(job, "e" * 1000, NOW_US + 5)
    assert jobs.due(NOW_US + 4, 9, ()) == []
    again = jobs.due(NOW_US + 5, 9, ())[0]
    assert (again.attempts, again.progress) == (1, Progress({FOLLOW: "x"}))


def test_a_failure_of_an_old_job_does_not_delay_the_new_one(db, lease):
    track("alice")
    job = job_of("alice", lease.epoch)
    with write_transaction():
        repos.reset([job.author_id], NOW_US)
    jobs.fail(job, "late", NOW_US * 3)
    assert job_of("alice", lease.epoch).attempts == 0


def test_a_gap_of_everybody_heals_when_each_of_them_is_complete(db, lease):
    track("alice", "bob")
    make_live("alice", "bob", epoch=lease.epoch)
    commit_gap(HOST, "test", 5, 6, lease.epoch, NOW_US)
    (gap,) = gaps.open_gaps(9)
    assert (gap.did, gap.host, gap.reason, gap.from_ms, gap.to_ms) == (None, HOST, "test", 5, 6)
    # Who is new since then has nothing to do with it.
    track("carol")
    make_live("alice", epoch=lease.epoch)
    assert len(gaps.open_gaps(9)) == 1
    make_live("bob", epoch=lease.epoch)
    assert gaps.open_gaps(9) == []


@pytest.mark.parametrize("was_live", [True, False])
def test_a_gap_of_everybody_goes_on_for_who_becomes_a_viewer_meanwhile(db, lease, was_live):
    track("alice")
    if was_live:
        make_live("alice", epoch=lease.epoch)
    commit_gap(HOST, "test", 5, 6, lease.epoch, NOW_US)
    for _ in range(2):
        viewers.welcome(did("alice"), NOW_US + 1)
    gaps.close_healed(NOW_US + 2)
    (gap,) = gaps.open_gaps(9)
    assert (gap.did, gap.host, gap.reason, gap.from_ms) == (did("alice"), HOST, "test", 5)
    make_live("alice", epoch=lease.epoch)
    assert gaps.open_gaps(9) == []
    # Who is complete again, new, or let go has nothing to do with it any more.
    track("bob", "dan")
    make_live("bob", epoch=lease.epoch)
    commit_gap(HOST, "test", 5, 6, lease.epoch, NOW_US + 3)
    make_live("bob", epoch=lease.epoch)
    for name in ("bob", "carol"):
        viewers.welcome(did(name), NOW_US + 4)
    assert [gap.did for gap in gaps.open_gaps(9)] == [None]


def test_numbers_of_accounts_are_given_once(db):
    first = author_ids([did("a"), did("b")])
    assert author_ids([did("b"), did("a"), did("c")]).items() >= first.items()
    assert author_did(first[did("a")]) == did("a")
    assert (author_id(did("a")), author_id(did("z"))) == (first[did("a")], None)
    assert author_did(10**6) is None
    assert len(author_ids(did(f"n{number}") for number in range(20_000))) == 20_000


def test_an_identity_is_kept_of_those_whom_we_know(db):
    save_identity(did("stranger"), None, "https://pds.test", None, 5)
    assert load_identity(did("stranger")) is None
    author_ids([did("alice")])
    assert load_identity(did("alice")) is None
    save_identity(did("alice"), "alice.test", "https://pds.test", "key", 5)
    assert load_identity(did("alice")).checked_us == 5
    outdate_identities([did("alice"), did("stranger")], 7)
    assert load_identity(did("alice")).checked_us == 0
    # Asked before the doubt came up: it goes on. Asked after it: it is settled.
    save_identity(did("alice"), "alice.test", "https://pds.test", "key", 6)
    assert load_identity(did("alice")).checked_us == 0
    save_identity(did("alice"), "alice.test", "https://pds.test", "key", 8)
    assert load_identity(did("alice")).checked_us == 8


def test_what_was_asked_earlier_replaces_no_later_answer(db):
    author_ids([did("alice")])
    save_identity(did("alice"), None, "https://new.test", "new", NOW_US)
    save_identity(did("alice"), None, "https://old.test", "revoked", NOW_US - 60_000_000)
    assert load_identity(did("alice")).signing_key == "new"
    # A clock that was a year ahead keeps nobody out for a year.
    save_identity(did("alice"), None, "https://far.test", "far", NOW_US + 31_536_000_000_000)
    save_identity(did("alice"), None, "https://now.test", "now", NOW_US)
    assert load_identity(did("alice")).signing_key == "now"
    # Nor does its doubt last for one.
    outdate_identities([did("alice")], NOW_US + 31_536_000_000_000)
    save_identity(did("alice"), None, "https://now.test", "now", NOW_US + 1)
    assert load_identity(did("alice")).checked_us == NOW_US + 1


def test_record_keys_come_back_as_they_were(db):
    odd = ["self", "3jzfcijpj2z2", "zzzzzzzzzzzzz", "A:b~c", "x" * 512, "kkkkkkkkkkkkk"]
    keys = [tid(n) for n in range(50)] + odd
    numbers = encode_rkeys(keys + keys)
    assert encode_rkeys(odd).items() <= numbers.items()
    assert sorted(decode_rkeys(numbers.values()).values()) == sorted(keys)
    assert all((number < 0) == (key in odd) for key, number in numbers.items())


def test_follows_count_by_record_and_not_by_person(stream):
    track("viewer", wants=repos.ITEMS | repos.FOLLOWS)
    stream.say("viewer", follow(tid(1), "ann"), follow("odd.key", "ann"), follow(tid(3), "viewer"))
    stream.say("viewer", unfollow(tid(1)))

    def followed():
        return sorted(row[0] for row in rows("SELECT subject_id FROM follows"))

    assert followed() == sorted([number_of("ann"), number_of("viewer")])
    stream.say("viewer", follow("odd.key", "ben"))
    assert followed() == sorted([number_of("ben"), number_of("viewer")])
    stream.say("viewer", unfollow("odd.key"), unfollow(tid(9)))
    assert followed() == [number_of("viewer")]
    wants = dict(rows("SELECT author_id, wants FROM repos"))
    assert wants[number_of("ann")] == repos.ITEMS
    assert wants[number_of("viewer")] == repos.ITEMS | repos.FOLLOWS


def test_follows_of_somebody_who_is_no_viewer_are_not_kept(stream):
    track("ann")
    stream.say("ann", follow(tid(1), "ben"), unfollow(tid(1)), follow(tid(2), "ben"))
    assert value("SELECT count(*) FROM follows") == 0
    assert value("SELECT count(*) FROM repos") == 1


def test_a_viewer_is_welcomed_once_and_ready_by_degrees(stream):
    number = viewers.welcome(did("viewer"), NOW_US)
    assert viewers.welcome(did("viewer"), NOW_US + 5) == number
    assert viewers.find(did("viewer")).first_us == NOW_US
    assert viewers.find(did("nobody")) is None
    assert not viewers.readiness(number).has_first_page
    stream.say("viewer", follow(tid(1), "ann"))
    make_live("viewer", epoch=stream.epoch)
    waiting = viewers.readiness(number)
    assert (waiting.are_follows_known, waiting.has_first_page, waiting.total) == (True, False, 2)
    make_live("ann", epoch=stream.epoch)
    assert viewers.readiness(number).complete == 2
    assert viewers.readiness(number).has_first_page


def test_an_author_who_becomes_a_viewer_is_fetched_again_with_follows(stream):
    track("ann")
    make_live("ann", epoch=stream.epoch)
    stream.say("ann", post(tid(1)), repost(tid(2), ("ben", tid(0))))
    viewers.welcome(did("ann"), NOW_US)
    job = job_of("ann", stream.epoch)
    assert job.wants == repos.ITEMS | repos.FOLLOWS
    assert value("SELECT count(*) FROM feed_items") == 2
