"""Group commit: what each caller gets, and that a group is saved whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from server.storage.database import execute, value
from server.storage.group_commit import MAX_CHANGES, MAX_GROUP, GroupCommit, one_by_one
from tests.builders import NOW_MS, post, tid
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db")

CALLERS = 20


@pytest.fixture
def writer(lease):
    group_commit = GroupCommit(lease.epoch)
    thread = Thread(target=group_commit.run)
    thread.start()
    yield group_commit
    group_commit.end()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(CALLERS + 1) as executor:
        yield executor


def save(name):
    execute("INSERT INTO odd_rkeys (rkey) VALUES (?)", (name,))
    return name


def saved():
    return value("SELECT count(*) FROM odd_rkeys")


def hold_up(writer, pool):
    """Keep the writer busy, so that what comes next makes one group; the event lets it go on."""
    has_begun, may_end = Event(), Event()

    def wait():
        has_begun.set()
        assert may_end.wait(10)

    pool.submit(writer.write, one_by_one, wait)
    assert has_begun.wait(10)
    return may_end


def gather(writer, pool, actions):
    """All of them in the group that comes next."""
    may_end = hold_up(writer, pool)
    futures = [pool.submit(writer.write, one_by_one, action) for action in actions]
    while writer._waiting.qsize() < len(futures):
        pass
    may_end.set()
    return futures


def test_each_caller_gets_the_result_of_its_own_write(writer, pool):
    names = [f"odd {number}" for number in range(CALLERS)]
    assert list(pool.map(lambda name: writer.write(one_by_one, lambda: save(name)), names)) == names
    assert saved() == CALLERS


def test_one_that_fails_takes_its_group_with_it_and_not_the_next(writer, pool):
    def fail():
        raise LookupError("of this group")

    actions = [lambda n=number: save(f"odd {n}") for number in range(3)]
    for future in gather(writer, pool, [*actions, fail]):
        with pytest.raises(LookupError, match="of this group"):
            future.result(10)
    assert saved() == 0
    writer.write(one_by_one, lambda: save("odd after"))
    assert saved() == 1


def test_a_group_is_one_transaction_of_bounded_size(writer, pool, monkeypatch):
    sizes = []
    next_group = writer._next_group
    monkeypatch.setattr(writer, "_next_group", lambda: [g := next_group(), sizes.append(len(g))][0])
    writer.write(one_by_one, lambda: None)
    with ThreadPoolExecutor(MAX_GROUP + 6) as crowd:
        for future in gather(writer, crowd, [lambda: None] * (MAX_GROUP + 5)):
            future.result(10)
    assert sizes[-2:] == [MAX_GROUP, 5]


def test_pages_that_are_large_are_not_saved_with_many_others(writer, pool, monkeypatch):
    sizes = []
    next_group = writer._next_group
    monkeypatch.setattr(writer, "_next_group", lambda: [g := next_group(), sizes.append(len(g))][0])
    may_end = hold_up(writer, pool)
    large = [post(tid(number), NOW_MS, tie=number) for number in range(MAX_CHANGES)]
    futures = []
    for changes in (large, large, (), large[:10], large):
        futures.append(pool.submit(writer.write, one_by_one, lambda: None, None, changes))
        wait_until(lambda: writer._waiting.qsize() == len(futures), "the next one")
    may_end.set()
    for future in futures:
        future.result(10)
    assert sizes[-3:] == [1, 1, 3]


def test_what_was_asked_before_the_end_is_still_written(pool, lease):
    group_commit = GroupCommit(lease.epoch)
    early = pool.submit(group_commit.write, one_by_one, lambda: save("odd early"))
    while not group_commit._waiting.qsize():
        pass
    group_commit.end()
    group_commit.run()
    assert early.result(10) == "odd early"
    assert saved() == 1


def test_a_group_that_the_database_keeps_waiting_is_seen_from_outside(writer, pool):
    began, go_on = Event(), Event()

    def slowly():
        began.set()
        assert go_on.wait(10)

    assert writer.wait.look() == 0
    waiting = pool.submit(writer.write, one_by_one, slowly)
    assert began.wait(10)
    assert writer.wait.look() > 0
    go_on.set()
    waiting.result(10)
    assert writer.wait.look() == 0
