"""No statement of the hot paths reads all of feed_items, on either database."""

import re
from types import SimpleNamespace

import pytest

from feeds import FEEDS
from server.core.feed import QUIET_DAYS
from server.core.projection import MEDIA, QUOTE, REPLY
from server.core.syntax import POST
from server.storage import departures, discrepancies, many_rows, outside_posts, repos, retention
from server.storage.batch import Batch
from server.storage.database import (
    current,
    execute,
    is_sqlite,
    rows,
    shared_readers,
    value,
    write_transaction,
)
from server.storage.many_rows import insert_rows
from server.storage.newest import renew_newest
from server.storage.page_rows import Page
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
from server.storage.timeline import timeline_page
from server.storage.touched import place_of_now, touch
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    commit_page,
    did,
    drop,
    follow,
    job_of,
    number_of,
    post,
    tid,
    track,
    unfollow,
)

pytestmark = pytest.mark.by_hand

AUTHORS, ITEMS_EACH = 200, 100
FOLLOWED = 120
VIEWERS = 50


def scan_of(tables):
    """In either database's words: every row of one of these tables, or of an index of it."""
    no_condition = r"[^\n]*(\n(?!\s+(Index|Recheck) Cond)|$)"
    return re.compile(
        rf"\bSCAN ({tables})\b|Seq Scan on ({tables})\b|Index[^\n]* on ({tables})\b{no_condition}"
    )


SCAN = scan_of("feed_items|i|p|q")


@pytest.fixture
def large(db, lease):
    """20,000 items, a third of them replies, and a viewer who follows many authors."""
    track("viewer", wants=repos.ITEMS | repos.FOLLOWS)
    track("author")
    viewer, author = number_of("viewer"), number_of("author")
    authors = range(100_000, 100_000 + AUTHORS)
    insert_rows(
        "INSERT INTO authors (id, did)", [(number, did(f"n{number}")) for number in authors]
    )
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version, horizon_rkey)",
        [(number, repos.LIVE, repos.ITEMS, 1, 1, 0) for number in authors],
    )
    items = []
    for rkey in range(ITEMS_EACH):
        for number in authors:
            place = (NOW_MS - rkey * 1000) << 21 | number
            parent = 100_000 + (number * 7 + rkey) % AUTHORS
            flags = (REPLY, MEDIA, 0)[rkey % 3] | (QUOTE if rkey % 7 == 0 else 0)
            # Every fifth is a repost.
            refers = (parent, rkey) if flags & REPLY or rkey % 5 == 0 else (None, None)
            flags = None if rkey % 5 == 0 else flags
            items.append((place, number, rkey, flags, *refers, None, None))
    columns = "id, author_id, rkey, flags, subject_id, subject_rkey, root_id, root_rkey"
    insert_rows(f"INSERT INTO feed_items ({columns})", items)
    with write_transaction():
        renew_newest(authors)
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)",
        [(viewer, number, 100_000 + number) for number in range(FOLLOWED)],
    )
    insert_rows(
        "INSERT INTO follow_backs (viewer_id, author_id, rkey, checked_us)",
        # A table of a page or two is rightly read as a whole.
        [
            (one, number, number, NOW_US)
            for one in (viewer, *authors[:VIEWERS])
            for number in authors
        ],
    )
    # Both planners are to know what they would know in life.
    execute("ANALYZE")
    yield viewer, author
    if not is_sqlite():
        execute("DELETE FROM feed_items")
        execute("ANALYZE")


class Spy:
    """The statements that are run while it watches."""

    def __init__(self, patch):
        self.seen = []
        self.run = current().execute_sql
        patch.setattr(current(), "execute_sql", self.watch)
        if is_sqlite():
            self.read = shared_readers().rows
            patch.setattr(shared_readers(), "rows", self.watch_page)
            self.run_many = many_rows._execute_many
            patch.setattr(many_rows, "_execute_many", self.watch_many)

    def watch_page(self, sql, values):
        self.seen.append((sql, values))
        return self.read(sql, values)

    def watch_many(self, sql, values):
        self.seen.append((sql, values[0]))
        return self.run_many(sql, values)

    def watch(self, sql, params=None):
        self.seen.append((sql, params))
        return self.run(sql, params)

    def plans(self, table="feed_items"):
        """Statement and plan of all that touch the table and look for something."""
        explain = "EXPLAIN QUERY PLAN" if is_sqlite() else "EXPLAIN"
        for sql, params in self.seen:
            # What is prepared is explained where it is run.
            looks = table in sql and not sql.startswith(("INSERT", "PREPARE"))
            if looks or sql.startswith("EXECUTE"):
                found = self.run(f"{explain} {sql}", params).fetchall()
                yield sql, "\n".join(str(row[-1]) for row in found)


@pytest.fixture
def spy(monkeypatch, large):
    return Spy(monkeypatch)


def assert_no_scans(spy, at_least):
    plans = list(spy.plans())
    assert len(plans) >= at_least
    for sql, plan in plans:
        assert not SCAN.search(plan), f"{sql}\n{plan}"


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
@pytest.mark.parametrize("beyond", [None, (NOW_MS - 50_000) << 21])
def test_a_page_is_found_by_indexes(large, spy, feed, beyond):
    # So much later that everybody is quiet.
    now_us = NOW_US + QUIET_DAYS * 86_400_000_000 + 1
    order = feed.oldest_first
    page = timeline_page(large[0], feed.filter, beyond, 50, now_us, oldest_first=order)
    assert len(page.items) == 50
    assert_no_scans(spy, at_least=1)


def test_what_a_page_out_of_memory_has_to_read_is_found_by_indexes(large, spy):
    following = next(feed for feed in FEEDS if feed.rkey == "following")
    recent = RecentItems(50_000)
    for _ in range(2):
        assert len(recent_page(recent, large[0], following.filter, 50).items) == 50
        with write_transaction():
            touch([100_000, 100_001])
    of_replies = "SELECT id FROM feed_items WHERE flags & ? <> 0 LIMIT 9"
    replies = rows(of_replies, (REPLY,))
    spy.seen.pop()
    recent.read_threads(recent.memory, [SimpleNamespace(key=key) for (key,) in replies])
    assert len(recent.memory.threads) >= 9
    assert_no_scans(spy, at_least=3)
    for _, plan in spy.plans("FROM repos") if is_sqlite() else ():
        assert not re.search(r"\bSCAN r\b", plan), plan


# What makes PostgreSQL think that nothing is too small for parallel workers.
EAGER = (
    "parallel_setup_cost = 0",
    "parallel_tuple_cost = 0",
    "min_parallel_table_scan_size = 0",
    "min_parallel_index_scan_size = 0",
)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_no_process_is_started_for_a_page(large, spy, feed):
    for setting in EAGER:
        execute(f"SET {setting}")
    timeline_page(large[0], feed.filter, None, 50, NOW_US, oldest_first=feed.oldest_first)
    plans = [plan for _, plan in spy.plans()]
    assert plans
    assert not [plan for plan in plans if "Gather" in plan]


def test_a_look_at_what_was_touched_goes_by_an_index(large, spy):
    for _ in range(2_000):
        with write_transaction():
            touch([1])
    if not is_sqlite():
        execute("ANALYZE touched")
    spy.seen.clear()
    place_of_now()
    plans = [plan for _, plan in spy.plans("FROM touched")]
    assert plans
    assert not re.search(r"SCAN touched$|Seq Scan on touched$", plans[-1], re.MULTILINE)


def test_a_look_at_many_loud_authors_is_found_by_indexes(large, spy):
    quiet = next(feed for feed in FEEDS if feed.filter.authors == "quiet")
    assert timeline_page(large[0], quiet.filter, None, 50, NOW_US).items == []
    assert_no_scans(spy, at_least=1)


def test_what_the_stream_says_of_follows_is_saved_by_indexes(large, spy, lease):
    Stream(lease.epoch).say("author", follow(tid(1), "viewer"), unfollow(tid(1)))
    plans = [plan for sql, plan in spy.plans("follow_backs") if not sql.startswith("DELETE")]
    assert len(plans) == 1
    assert not re.search(r"SCAN (follow_backs)|Seq Scan on follow_backs", plans[0])


def test_a_batch_is_saved_by_indexes(large, spy, lease):
    stream = Stream(lease.epoch)
    stream.say("author", *(post(tid(n), NOW_MS - n, parent=("x", tid(n))) for n in range(40)))
    stream.say("author", *(post(tid(n), NOW_MS - 99) for n in range(40)), drop(tid(50)))
    assert_no_scans(spy, at_least=4)


def test_a_batch_about_many_finds_each_of_them(large, spy, lease):
    # So many of so few that to read all of them would seem cheaper.
    many = range(200_000, 220_000)
    insert_rows("INSERT INTO authors (id, did)", [(number, did(f"n{number}")) for number in many])
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version)",
        [(number, repos.LIVE, repos.ITEMS, 1, 1) for number in many],
    )
    execute("ANALYZE")
    spy.seen.clear()
    stream = Stream(lease.epoch)
    commits = [stream.next(f"n{number}", post(tid(1), NOW_MS)) for number in many[::100]]
    stream.save(Batch(commits=[*commits, stream.next("author", drop(tid(1)))]))
    for table in ("repos", "authors", "feed_items"):
        plans = [plan for _, plan in spy.plans(table)]
        assert plans
        assert not [plan for plan in plans if scan_of(f"{table}|t").search(plan)]
        # SQLite reads all for that as well.
        assert not [plan for plan in plans if "BLOOM FILTER" in plan]
    assert value("SELECT count(*) FROM repos WHERE rev > 0") == len(commits) + 1


def test_a_page_of_a_backfill_is_saved_by_indexes(large, spy, lease):
    job = job_of("author", lease.epoch)
    changes = [post(tid(n), NOW_MS - n) for n in range(100)]
    page = Page(POST, changes, {change.rkey for change in changes}, None, tid(0))
    assert commit_page(job, page, lease.epoch)
    assert_no_scans(spy, at_least=3)


def test_old_items_are_let_go_by_indexes(large, spy):
    execute("UPDATE repos SET state = ?", (repos.LIVE,))
    retention.trim(100_000, NOW_MS)
    outside_posts.want_again(100_001, 0)
    assert_no_scans(spy, at_least=2)


def test_letting_go_and_looking_go_by_indexes(large, spy, lease):
    execute("UPDATE repos SET state = ?", (repos.LIVE,))
    execute("DELETE FROM follows WHERE subject_id = 100000")
    departures.note_lonely(0, 1_000_000, NOW_US)
    while departures.depart(100_000, lease.epoch, NOW_US):
        pass
    assert discrepancies.held(100_001, POST, 50)
    assert_no_scans(spy, at_least=4)


def test_a_scan_would_be_seen(large, spy):
    current().execute_sql("SELECT id FROM feed_items i WHERE flags = 7")
    ((_, plan),) = spy.plans()
    assert SCAN.search(plan)
