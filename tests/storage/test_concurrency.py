"""Several writers and readers at once: nobody is refused or waits for ever, nothing is lost."""

import threading

import pytest

from feeds import FEEDS
from server.core.syntax import FOLLOW
from server.storage import departures, jobs, repos, viewers
from server.storage.batch import Batch
from server.storage.changes import commit_gap, void_chains
from server.storage.database import execute, value, write_transaction
from server.storage.forget import forget
from server.storage.group_commit import GroupCommit, one_by_one
from server.storage.page_rows import Page
from server.storage.timeline import timeline_page
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    commit_page,
    confirm_all,
    did,
    follow,
    make_live,
    number_of,
    post,
    tid,
    track,
)
from tests.ingest.conftest import wait_until

ROUNDS = 60
VIEWERS = ("ann", "ben", "cat")

# Who waits for a lock. (pg_stat_activity would go on showing what it was first asked.)
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def commit_gap_of_everybody(epoch):
    commit_gap(HOST, "test", 0, 1, epoch, NOW_US)
    assert value("SELECT count(*) FROM gaps") == 1


def void_all_chains(epoch):
    void_chains(epoch)
    assert value("SELECT is_chained FROM repos") == repos.UNCHAINED


class Crowd:
    """What goes on at once in a busy process, each method a thread."""

    def __init__(self, epoch):
        track(*VIEWERS, wants=repos.ITEMS | repos.FOLLOWS)
        confirm_all(epoch)
        self.epoch = epoch
        self.stream = Stream(epoch)

    def write(self):
        for count in range(ROUNDS):
            commits = [self.stream.next(name, post(tid(count), NOW_MS + count)) for name in VIEWERS]
            self.stream.save(Batch(commits=commits))

    def reset(self):
        for count in range(ROUNDS):
            if count % 5 == 0:
                commit_gap(HOST, "test", 0, 1, self.epoch, NOW_US)
            self.stream.save(Batch(resets={did(name) for name in VIEWERS}))
            confirm_all(self.epoch)

    def backfill(self, name):
        others = [other for other in VIEWERS if other != name]
        for count in range(ROUNDS):
            changes = [follow(tid(n), f"{name}{count}{n}") for n in range(3)]
            changes += [follow(tid(5 + n), other) for n, other in enumerate(others)]
            page = Page(FOLLOW, changes, {c.rkey for c in changes}, None, None)
            due = jobs.due(NOW_US * 2, 99, ())
            for job in [job for job in due if job.did == did(name)]:
                commit_page(job, page, self.epoch)

    def welcome(self):
        for count in range(ROUNDS):
            for name in (f"ann{count}1", f"new{count}", "ann"):
                viewers.welcome(did(name), NOW_US)


def test_stream_backfill_viewers_and_gaps_do_not_stop_each_other(db, lease, together):
    crowd = Crowd(lease.epoch)
    backfills = [lambda name=name: crowd.backfill(name) for name in VIEWERS[:2]]
    together(crowd.write, crowd.reset, crowd.welcome, *backfills)
    assert value("SELECT count(*) FROM feed_items") == ROUNDS * len(VIEWERS)
    assert value("SELECT count(*) FROM viewers") == 2 * ROUNDS + 1
    assert value("SELECT max(tracked_version) FROM repos") <= value("SELECT value FROM counters")


def test_readers_see_whole_batches_while_they_are_written(db, lease, together):
    track(*VIEWERS)
    stream = Stream(lease.epoch)
    for name in VIEWERS[1:]:
        stream.save(Batch(commits=[stream.next(name, post(tid(0), NOW_MS))]))
    done = threading.Event()
    sizes = []

    def write():
        try:
            for count in range(1, ROUNDS):
                both = [post(tid(2 * count + n), NOW_MS + 2 * count + n) for n in range(2)]
                stream.save(Batch(commits=[stream.next("ann", *both)]))
        finally:
            done.set()

    def read():
        number, is_last = number_of("ann"), False
        # Once more after the last batch: a slow reader comes too late for all others.
        while not is_last:
            is_last = done.is_set()
            page = timeline_page(number, FEEDS[1].filter, None, 100, NOW_US)
            sizes.append(len(page.items))

    together(write, read, read)
    assert all(size % 2 == 0 for size in sizes)
    assert max(sizes) == 100


@pytest.mark.parametrize(
    "other",
    [
        lambda epoch: viewers.welcome(did("ann"), NOW_US),
        lambda epoch: commit_gap(HOST, "test", 0, 1, epoch, NOW_US),
    ],
    ids=["a new viewer", "a gap of everybody"],
)
def test_who_holds_a_repo_and_resets_it_is_not_deadlocked(
    postgresql, lease, together, monkeypatch, other
):
    """Everybody takes rows of repos before the counter; the other order would be a deadlock."""
    monkeypatch.setattr("server.storage.conflicts.MAX_CONFLICTS", 0)
    track("ann")
    held = threading.Event()

    def hold():
        number = number_of("ann")
        with write_transaction():
            repos.load_repos([number])
            held.set()
            wait_until(lambda: value(WAITING) > 0)
            repos.reset([number], NOW_US)

    def meanwhile():
        assert held.wait(10)
        other(lease.epoch)

    together(hold, meanwhile)
    assert value("SELECT max(epoch) FROM repos") >= 2


@pytest.mark.parametrize("is_let_go_first", [True, False])
def test_who_is_followed_at_the_moment_of_being_let_go_is_tracked(
    postgresql, lease, together, is_let_go_first
):
    """The follow is written and not yet committed when the author is let go, or the reverse."""
    viewers.welcome(did("vera"), NOW_US)
    track("ann")
    make_live("vera", "ann", epoch=lease.epoch)
    ann, stream = number_of("ann"), Stream(lease.epoch)
    departures.note_lonely(0, 9, NOW_US)
    held = threading.Event()

    def let_go():
        departures.depart(ann, lease.epoch, NOW_US + departures.LONELY_US)

    def follow_ann():
        stream.say("vera", follow(tid(1), "ann"))

    first, second = (let_go, follow_ann) if is_let_go_first else (follow_ann, let_go)

    def hold():
        with write_transaction():
            first()
            held.set()
            wait_until(lambda: value(WAITING) > 0)

    def meanwhile():
        assert held.wait(10)
        second()

    together(hold, meanwhile)
    state = value("SELECT state FROM repos WHERE author_id = ?", (ann,))
    assert state == (repos.PENDING if is_let_go_first else repos.LIVE)
    assert not departures.depart(ann, lease.epoch, NOW_US + departures.LONELY_US)


@pytest.mark.parametrize("is_forgotten_first", [True, False])
def test_who_is_followed_at_the_moment_of_being_forgotten_is_tracked(
    postgresql, lease, together, is_forgotten_first
):
    """The follow is written and not yet committed when the viewer is forgotten, or the reverse."""
    for name in ("vera", "will"):
        viewers.welcome(did(name), NOW_US)
        make_live(name, epoch=lease.epoch)
    stream = Stream(lease.epoch)

    def forget_vera():
        forget(did("vera"))

    def follow_vera():
        stream.say("will", follow(tid(1), "vera"))

    first, second = (forget_vera, follow_vera) if is_forgotten_first else (follow_vera, forget_vera)
    held, done = threading.Event(), threading.Event()

    def hold():
        with write_transaction():
            first()
            held.set()
            wait_until(lambda: done.is_set() or value(WAITING) > 0)

    def meanwhile():
        assert held.wait(10)
        second()
        done.set()

    together(hold, meanwhile)
    state = value("SELECT state FROM repos WHERE author_id = ?", (number_of("vera"),))
    assert state == (repos.PENDING if is_forgotten_first else repos.LIVE)
    assert viewers.find(did("vera")) is None


def test_a_transaction_that_lost_against_another_is_run_again(postgresql, lease, together):
    """Equal posts of two authors at one moment: both want the same place."""
    track("ann", "ben")
    held = threading.Event()
    group = GroupCommit(lease.epoch)

    def hold():
        with write_transaction():
            Stream(lease.epoch, "one").say("ann", post(tid(1)))
            held.set()
            wait_until(lambda: value(WAITING) > 0)

    def meanwhile():
        assert held.wait(10)
        # The batch is a part of a group's transaction, which has to be run again as a whole.
        try:
            group.write(one_by_one, lambda: Stream(lease.epoch, "other").say("ben", post(tid(2))))
        finally:
            group.end()

    together(hold, meanwhile, group.run)
    assert value("SELECT count(*) FROM feed_items") == 2


@pytest.mark.parametrize("write", [commit_gap_of_everybody, void_all_chains])
def test_what_concerns_everybody_is_written_however_long_that_takes(
    postgresql, lease, together, write
):
    track("ann")
    held = threading.Event()

    def hold():
        with write_transaction():
            repos.load_repos([number_of("ann")])
            held.set()
            wait_until(lambda: value(WAITING) > 0)
            # Four times what a statement may take beside it.
            execute("SELECT pg_sleep(0.2)")

    def meanwhile():
        assert held.wait(10)
        execute("SET statement_timeout = 50")
        write(lease.epoch)

    together(hold, meanwhile)
