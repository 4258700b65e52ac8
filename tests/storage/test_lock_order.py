"""The order in which locks are taken (storage/conflicts.py): who keeps it need not be run again.

And who keeps none is.
"""

import threading
from contextlib import closing

import psycopg2
import pytest

from server.storage import (
    authors,
    follow_backs,
    outside_posts,
    pages,
    read_positions,
    tombstones,
)
from server.storage.batch import Batch
from server.storage.database import execute, value
from server.storage.group_commit import GroupCommit
from server.storage.jobs import Progress
from server.storage.page_rows import Page
from server.storage.pages import Listed
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    job_of,
    number_of,
    post,
    repost,
    tid,
    track,
)
from tests.ingest.conftest import wait_until

# Who waits for a lock.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
# In the order of their numbers, in which locks are taken; the group's writes come in the other.
LOW, HIGH, OTHER = "ann", "ben", "cat"


@pytest.fixture
def stream(postgresql, lease):
    for name in (LOW, HIGH, OTHER):
        track(name)
    return Stream(lease.epoch)


def page(stream, name, change):
    """What a worker asks to be written when it has read a page."""
    job = job_of(name, stream.epoch)
    read = Page(change.collection, [change], {change.rkey}, None, None)
    return pages.commit_pages, Listed(job, read, Progress(), 0), job.author_id, read.changes


def both_repos(stream):
    commits = [stream.next(name, post(tid(3), tie=number_of(name))) for name in (LOW, HIGH)]
    return [page(stream, name, post(tid(1))) for name in (HIGH, LOW)], Batch(commits=commits)


def both_said(stream, *changes):
    """Two changes each, the higher one first by the group: they want the same to be there."""
    low, high = changes
    writes = [page(stream, HIGH, high(1)), page(stream, LOW, low(2))]
    return writes, Batch(commits=[stream.next(OTHER, low(3), high(4))])


def reposts(*targets):
    return [lambda n, to=to: repost(tid(n), to, NOW_MS + n) for to in targets]


def both_new_accounts(stream):
    return both_said(stream, *reposts(*((name, tid(0)) for name in sorted(("x", "y"), key=did))))


def both_new_record_keys(stream):
    number_of("x")
    return both_said(stream, *reposts(("x", "key a"), ("x", "key b")))


def both_posts_of_strangers(stream):
    number_of("x")
    targets = [("x", tid(0)), ("x", tid(1))]
    return both_said(
        stream, *(lambda n, to=to: post(tid(n), NOW_MS + n, parent=to) for to in targets)
    )


def both_identities(stream):
    numbers = {name: number_of(name) for name in (HIGH, LOW)}
    for name in (LOW, HIGH):
        authors.save_identity(did(name), None, "https://pds.test", "key", NOW_US)
    writes = [
        (
            pages.remember_homes,
            authors.StoredIdentity(did(name), None, "https://new.test", "key", NOW_US),
            number,
        )
        for name, number in numbers.items()
    ]
    return writes, Batch(identities={did(LOW), did(HIGH)})


@pytest.mark.parametrize(
    "shared",
    [
        both_repos,
        both_new_accounts,
        both_new_record_keys,
        both_posts_of_strangers,
        both_identities,
    ],
)
def test_a_batch_and_a_group_never_wait_for_each_other(stream, together, monkeypatch, shared):
    monkeypatch.setattr("server.storage.conflicts.MAX_CONFLICTS", 0)
    ((save, *of_first), second), batch = shared(stream)
    group = GroupCommit(stream.epoch)
    is_between, is_told = threading.Event(), threading.Event()

    def save_first(*ask):
        # Another function than the second write's, so it is called alone, and first.
        results = save(*ask)
        is_between.set()
        wait_until(lambda: is_told.is_set() or value(WAITING) > 0)
        return results

    def ask(number, *write):
        wait_until(lambda: group._waiting.qsize() == number)
        group.write(*write)

    def tell():
        assert is_between.wait(10)
        stream.save(batch)
        is_told.set()

    def run():
        wait_until(lambda: group._waiting.qsize() == 2)
        group.end()
        group.run()

    together(run, tell, lambda: ask(0, save_first, *of_first), lambda: ask(1, *second))
    assert is_told.is_set()


@pytest.mark.parametrize(
    ("table", "row", "expire"),
    [
        ("outside_posts", "(author_id, rkey, newest_key) VALUES (?, 1, 1)", outside_posts.expire),
        (
            "tombstones",
            "(author_id, collection, rkey, rev, is_alive, written_us) VALUES (?, 0, 1, 1, 0, 1)",
            tombstones.expire,
        ),
        (
            "follow_backs",
            "(author_id, viewer_id, checked_us) VALUES (?, 1, 1)",
            follow_backs.expire,
        ),
        (
            "read_positions",
            "(viewer_id, feed, sort_key, written_us) VALUES (?, 'bottom', 1, 1)",
            read_positions.expire,
        ),
    ],
)
def test_what_is_old_goes_also_when_others_hold_it_in_another_order(
    postgresql, together, table, row, expire
):
    """The schedule deletes it in the order of the table; it is the one that sees the deadlock."""
    for number in (1, 2, 3):
        execute(f"INSERT INTO {table} {row}", (number,))
    hold = f"SELECT 1 FROM {table} WHERE {row[1:].partition(',')[0]} = %s FOR UPDATE"  # noqa: S608

    def let_go():
        execute("SET deadlock_timeout = '10ms'")
        expire(NOW_US)

    with closing(psycopg2.connect(postgresql)) as second, closing(second.cursor()) as of_second:
        other = psycopg2.connect(postgresql, options="-c deadlock_timeout=60s")
        of_second.execute(hold, (2,))
        other.cursor().execute(hold, (3,))

        def want_the_first():
            with closing(other):
                wait_until(lambda: value(WAITING) >= 1)
                other.cursor().execute(hold, (1,))

        def let_the_second_go():
            wait_until(lambda: value(WAITING) >= 2)
            second.rollback()

        together(let_go, want_the_first, let_the_second_go)
    assert value(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
