"""The ledger's answer: complete since when, for how many, and whom not, and why not."""

import time

import pytest

from server.core.syntax import tid_to_int
from server.storage import gaps, jobs, ledger, pages, repos
from server.storage.batch import Batch
from server.storage.database import execute, rows, write_transaction
from server.storage.ledger import Window
from server.storage.many_rows import insert_rows
from tests.builders import (
    NOW_US,
    Stream,
    did,
    follow,
    job_of,
    make_live,
    number_of,
    post,
    tid,
    track,
    write_alone,
)

DAY_MS = 86_400_000
DAY_US = DAY_MS * 1000
WINDOW = Window.at(NOW_US, 7, 30)
WEEK_OLD = tid_to_int(tid(-8 * DAY_MS))

pytestmark = pytest.mark.usefixtures("db", "lease")


@pytest.fixture
def stream(lease):
    """Viv, who follows four people. Nothing of anybody is fetched, but for her own repo."""
    track("viv", wants=repos.ITEMS | repos.FOLLOWS)
    stream = Stream(lease.epoch)
    names = ("ann", "bob", "cat", "dan")
    stream.say("viv", *(follow(tid(n), name) for n, name in enumerate(names)))
    make_live("viv", epoch=lease.epoch, rev=1, horizon=WEEK_OLD)
    return stream


def of_viv(limit=100):
    return ledger.of_viewer(number_of("viv"), WINDOW, limit)


def why(answer):
    return {shortfall.did: shortfall.why for shortfall in answer.shortfalls}


def test_each_author_is_complete_or_has_one_reason_why_not(stream, lease):
    make_live("ann", "bob", epoch=lease.epoch, rev=1, horizon=WEEK_OLD)
    job = job_of("cat", lease.epoch)
    write_alone(pages.mark_partial, job, job, lease.epoch)
    answer = of_viv()
    assert (answer.authors, answer.complete) == (5, 3)
    assert answer.counts == {"newest page": 1, "pending": 1}
    assert why(answer) == {did("cat"): "newest page", did("dan"): "pending"}
    assert ledger.of_everybody(WINDOW, 100) == answer


def test_complete_since_is_the_weakest_horizon_of_those_who_are(stream, lease):
    make_live("ann", epoch=lease.epoch, horizon=0)
    assert of_viv().since_us == NOW_US - 8 * DAY_US
    make_live("bob", epoch=lease.epoch, horizon=tid_to_int(tid(-7 * DAY_MS - 1)))
    assert of_viv().since_us == NOW_US - 7 * DAY_US - 1000
    assert ledger.of_everybody(WINDOW, 0).since_us == of_viv().since_us


@pytest.mark.by_hand
def test_nothing_is_promised_from_before_what_is_kept(stream, lease):
    execute("UPDATE repos SET horizon_rkey = 0")
    assert of_viv().since_us == NOW_US - 30 * DAY_US


def test_an_author_known_only_since_later_is_no_measure_for_the_others(stream, lease):
    make_live("ann", epoch=lease.epoch, horizon=tid_to_int(tid(-DAY_MS)))
    answer = of_viv()
    assert answer.since_us == NOW_US - 8 * DAY_US
    shown = next(s for s in answer.shortfalls if s.did == did("ann"))
    assert (shown.why, shown.since_us) == ("horizon", NOW_US - DAY_US)
    assert ledger.of_everybody(WINDOW, 100).counts == answer.counts


def test_a_pds_that_fails_is_named_with_its_last_words_and_the_next_try(stream, lease):
    jobs.fail(job_of("ann", lease.epoch), "it hangs", NOW_US + 5)
    shown = next(s for s in of_viv().shortfalls if s.did == did("ann"))
    assert (shown.why, shown.error, shown.attempts, shown.retry_us) == (
        "failing",
        "it hangs",
        1,
        NOW_US + 5,
    )


def test_an_account_that_is_away_is_named_with_its_status(stream, lease):
    make_live("ann", epoch=lease.epoch)
    stream.save(Batch(statuses={did("ann"): (False, "deactivated")}))
    shown = next(s for s in of_viv().shortfalls if s.did == did("ann"))
    assert (shown.why, shown.status) == ("inactive", "deactivated")
    assert ledger.of_everybody(WINDOW, 100).counts["inactive"] == 1


def test_the_gap_of_an_author_is_named_with_reason_and_span_until_it_closes(stream, lease):
    make_live("ann", "bob", epoch=lease.epoch, rev=1)
    stream.revs["ann"] = 5
    stream.say("ann", post(tid(1)))
    shown = next(s for s in of_viv().shortfalls if s.did == did("ann"))
    assert (shown.why, shown.gap_reason) == ("gap", "chain")
    assert shown.gap_from_ms == shown.gap_to_ms > 0
    assert why(of_viv()).get(did("bob")) is None
    make_live("ann", epoch=lease.epoch, rev=6)
    assert did("ann") not in why(of_viv())


def test_a_gap_of_everybody_holds_each_back_until_they_are_complete_again(stream, lease):
    make_live("ann", "bob", "cat", "dan", epoch=lease.epoch)
    with write_transaction():
        gaps.open_for_all("relay.test", "cursor outdated", 10, 20, NOW_US)
    assert of_viv().counts == {"gap": 5}
    assert {s.gap_reason for s in of_viv().shortfalls} == {"cursor outdated"}
    make_live("ann", epoch=lease.epoch)
    assert of_viv().counts == {"gap": 4}
    # Who is followed only now has nothing to do with it.
    track("eve")
    make_live("viv", epoch=lease.epoch)
    stream.revs["viv"] = 0
    assert ledger.of_author(number_of("eve"), WINDOW).why == "pending"
    assert ledger.of_author(number_of("bob"), WINDOW).why == "gap"
    assert ledger.of_author(number_of("ann"), WINDOW) is None


@pytest.mark.by_hand
def test_whom_we_let_go_of_is_said_to_be_untracked(stream):
    execute("UPDATE repos SET state = 0 WHERE author_id = ?", (number_of("ann"),))
    assert why(of_viv())[did("ann")] == "untracked"
    assert ledger.of_everybody(WINDOW, 100).authors == 4


def test_shortfalls_are_bounded_and_counts_are_not(stream):
    answer = of_viv(limit=2)
    assert len(answer.shortfalls) == 2
    assert answer.counts == {"pending": 4}


def test_what_is_vouched_for_ends_where_the_stream_is(stream):
    stream.save(Batch(), event_ms=123)
    assert of_viv().until_us == 123_000
    execute("DELETE FROM stream_cursors")
    assert of_viv().until_us is None


@pytest.mark.by_hand
def test_ten_thousand_follows_are_answered_at_once(db):
    numbers = range(10_001, 20_001)
    insert_rows("INSERT INTO authors (id, did)", [(n, f"did:web:{n}.test") for n in numbers])
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version, horizon_rkey)",
        [(n, repos.LIVE if n % 10 else repos.PENDING, 1, 1, n, WEEK_OLD) for n in numbers],
    )
    insert_rows(
        "INSERT INTO backfill_jobs (author_id, priority, not_before_us)",
        [(n, 1, 0) for n in numbers if n % 10 == 0],
    )
    viewer = numbers[0]
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)", [(viewer, n, n) for n in numbers[1:]]
    )
    insert_rows(
        "INSERT INTO gaps (author_id, reason, from_ms, to_ms, tracked_version, opened_us)",
        [(n, "chain", 0, 0, 0, 0) for n in numbers if n % 100 == 0],
    )
    rows("ANALYZE") if "sqlite" in db else execute("ANALYZE")
    began = time.monotonic()
    answer = ledger.of_viewer(viewer, WINDOW, 100)
    lasted_s = time.monotonic() - began
    assert (answer.complete, answer.counts) == (9000, {"gap": 100, "pending": 900})
    assert ledger.of_everybody(WINDOW, 0).counts == answer.counts
    # It takes a tenth of this on an idle machine; a plan without indexes takes a hundred times it.
    assert lasted_s < 1.0
