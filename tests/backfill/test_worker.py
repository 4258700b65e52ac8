"""Which jobs the workers start: the urgent ones first, and room for them beside all others."""

from concurrent.futures import Future
from threading import Event as StopEvent

import pytest

from server.backfill import worker
from server.backfill.worker import JOBS_A_HOST, BackfillWorkers
from server.core.projection import SaveFollow
from server.storage import follows, jobs, leases, repos, viewers
from server.storage.authors import save_identity
from server.storage.database import write_transaction
from server.storage.items import COLLECTIONS, name
from tests.builders import (
    FOLLOW,
    NOW_US,
    Stream,
    confirm_all,
    did,
    make_live,
    number_of,
    tid,
    unfollow,
)

pytestmark = pytest.mark.usefixtures("db")

WORKERS = 20


class IdlePool:
    """Takes jobs and never runs them."""

    def __init__(self):
        self.started = []

    def submit(self, _run, job):
        self.started.append(job.did)
        return Future()


@pytest.fixture
def pool():
    return IdlePool()


@pytest.fixture
def workers(sources, lease, monkeypatch):
    monkeypatch.setattr(worker, "_now_us", lambda: NOW_US * 2)
    confirm_all(lease.epoch)
    return BackfillWorkers(sources, WORKERS, StopEvent())


def crowd(word, size):
    return [did(f"{word}{number}") for number in range(size)]


def queue(people, priority, home=None):
    """Track these accounts, each to be fetched with a priority."""
    numbers = name([], people).authors
    with write_transaction():
        repos.track(numbers.values(), repos.ITEMS, NOW_US, priority)
    for number, person in enumerate(people):
        save_identity(person, None, home or f"https://pds{number}.test", None, NOW_US)


def test_all_workers_are_used_and_no_more(workers, pool):
    queue(crowd("a", WORKERS + 9), repos.NEWEST_PAGE)
    workers._start_due(pool)
    assert len(set(pool.started)) == len(pool.started) == WORKERS


def test_one_host_does_not_hold_all_workers(workers, pool):
    queue(crowd("a", WORKERS), repos.NEWEST_PAGE, "https://slow.test")
    queue(crowd("b", 2), repos.NEWEST_PAGE)
    workers._start_due(pool)
    # The next look leaves out hosts that have their share.
    workers.next_look = 0.0
    workers._start_due(pool)
    assert len(pool.started) == JOBS_A_HOST + 2


@pytest.mark.attack("strangers' servers")
def test_websites_that_are_to_say_where_their_accounts_live_do_not_hold_all_workers(workers, pool):
    names = [f"did:web:slow{number}.test" for number in range(2 * WORKERS)]
    with write_transaction():
        repos.track(name([], names).authors.values(), repos.ITEMS, NOW_US)
    queue(crowd("quick", 3), repos.NEWEST_PAGE)
    for _ in range(2):
        workers.next_look = 0.0
        workers._start_due(pool)
    assert set(crowd("quick", 3)) < set(pool.started)
    assert len(set(names) & set(pool.started)) == JOBS_A_HOST
    # Whose PDS is known now takes a place there, and leaves theirs to the next one.
    job = next(iter(workers.running.values()))
    assert workers.places.take(job.author_id, "https://pds.test")
    workers.next_look = 0.0
    workers._start_due(pool)
    assert len(set(names) & set(pool.started)) == JOBS_A_HOST + 1


def test_what_nobody_waits_for_leaves_room_for_what_somebody_does(workers, pool):
    late = crowd("late", WORKERS)
    queue(late, repos.NEWEST_OF_MANY)
    queue(crowd("soon", 1), repos.NEWEST_PAGE)
    workers._start_due(pool)
    assert pool.started[0] == did("soon0")
    assert len(pool.started) == 1 + WORKERS // worker.PATIENT_SHARE


def test_what_nobody_waits_for_gets_all_when_nobody_waits(workers, pool):
    queue(crowd("late", WORKERS + 5), repos.NEWEST_OF_MANY)
    workers._start_due(pool)
    assert len(pool.started) == WORKERS


def test_what_somebody_waits_for_finds_a_worker_also_when_all_do_what_nobody_waits_for(
    workers, pool
):
    queue(crowd("late", WORKERS), repos.OLDER_PAGES)
    workers._start_due(pool)
    assert len(pool.started) == WORKERS
    queue(crowd("soon", WORKERS), repos.NEWEST_PAGE)
    workers.next_look = 0.0
    workers._start_due(pool)
    reserve = WORKERS // worker.RESERVE_SHARE
    assert len(set(pool.started[WORKERS:]) & set(crowd("soon", WORKERS))) == reserve > 0
    assert len(pool.started) == WORKERS + reserve


def follow_one_commit_after_the_other(viewer, people):
    """As the stream tells a viewer's follows, ten to a commit."""
    viewers.welcome(did(viewer), NOW_US)
    stream = Stream(leases.leader().epoch)
    for start in range(0, len(people), 10):
        told = [SaveFollow(tid(start + n), p) for n, p in enumerate(people[start : start + 10])]
        stream.say(viewer, *told)


@pytest.mark.parametrize("are_told", [False, True])
def test_somebody_with_few_follows_does_not_wait_for_somebody_with_thousands(
    workers, pool, monkeypatch, are_told
):
    monkeypatch.setattr(follows, "MANY_FOLLOWS", 5)
    for viewer, size in (("busy", 60), ("modest", 3)):
        theirs = crowd(f"of-{viewer}", size)
        (follow_one_commit_after_the_other if are_told else follow_page_by_page)(viewer, theirs)
    workers._start_due(pool)
    assert set(crowd("of-modest", 3)) < set(pool.started)
    # A page of ten was as urgent; the others may only use a part of the workers.
    busy = set(crowd("of-busy", 60)) & set(pool.started)
    assert len(busy) == 10 + WORKERS // worker.PATIENT_SHARE


def follow_page_by_page(viewer, people):
    """As a backfill saves a viewer's follows, ten to a page."""
    viewers.welcome(did(viewer), NOW_US)
    number = number_of(viewer)
    for start in range(0, len(people), 10):
        changes = [SaveFollow(tid(start + n), p) for n, p in enumerate(people[start : start + 10])]
        names = name(changes, [])
        keys = {(number, names.rkeys[c.rkey], COLLECTIONS[FOLLOW]): c for c in changes}
        with write_transaction():
            priority = follows.priority_of_more(number)
            follows.save_follows(keys, names, NOW_US, priority)


def test_whom_somebody_followed_for_a_moment_keeps_nobody_waiting(workers, pool):
    viewers.welcome(did("busy"), NOW_US)
    stream = Stream(workers.sources.epoch)
    theirs = crowd("of-busy", 2 * WORKERS)
    for person in theirs:
        stream.say("busy", SaveFollow(tid(1), person))
        stream.say("busy", unfollow(tid(1)))
    # One of them comes to stay, and one is a viewer.
    stream.say("busy", SaveFollow(tid(1), theirs[-1]))
    stream.say("busy", SaveFollow(tid(2), did("busy")))
    stream.say("busy", unfollow(tid(2)))
    follow_page_by_page("modest", crowd("of-modest", 3))
    workers._start_due(pool)
    awaited = [theirs[-1], did("busy"), did("modest"), *crowd("of-modest", 3)]
    assert set(pool.started[: len(awaited)]) == set(awaited)


def test_somebody_with_thousands_who_follows_one_more_does_not_wait(workers, pool, monkeypatch):
    monkeypatch.setattr(follows, "MANY_FOLLOWS", 5)
    follow_page_by_page("busy", crowd("of-busy", 60))
    stream = Stream(workers.sources.epoch)
    make_live(*(f"of-busy{n}" for n in range(7)), epoch=workers.sources.epoch)
    stream.say("busy", SaveFollow(tid(99), did("one-more")))
    workers._start_due(pool)
    assert did("one-more") in pool.started


def test_a_hole_makes_nobody_wait_for_longer_who_is_waited_for(workers, pool):
    queue(crowd("late", WORKERS + 5), repos.OLDER_PAGES)
    queue(crowd("soon", 2), repos.NEWEST_PAGE)
    viewers.welcome(did("new"), NOW_US + 1)
    with write_transaction():
        repos.reset([number_of("new")], NOW_US + 2)
        repos.reset_all(NOW_US + 3)
    workers._start_due(pool)
    assert pool.started[0] == did("new")
    assert set(pool.started[1:3]) == set(crowd("soon", 2))


def test_somebody_with_few_follows_does_not_wait_for_thousands_of_whom_theirs_are_some(
    workers, pool, monkeypatch
):
    monkeypatch.setattr(follows, "MANY_FOLLOWS", 5)
    theirs = crowd("of-busy", 60)
    follow_page_by_page("busy", theirs)
    follow_page_by_page("modest", theirs[-3:])
    workers._start_due(pool)
    assert set(theirs[-3:]) < set(pool.started)


def test_who_is_fetched_again_after_a_hole_is_not_hurried_by_whom_viewers_follow(lease):
    confirm_all(lease.epoch)
    theirs = crowd("of-modest", 2)
    follow_page_by_page("modest", theirs)
    make_live("of-modest0")
    with write_transaction():
        repos.reset_all(NOW_US)
    follow_page_by_page("modest", theirs)
    waits = {job.did: job.priority for job in jobs.due(NOW_US, 9, [])}
    assert waits[theirs[0]] == repos.NEWEST_OF_MANY
    assert waits[theirs[1]] == repos.NEWEST_PAGE
