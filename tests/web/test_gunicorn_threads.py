"""The threads of a gunicorn worker: each job once, its outcome told, and an end."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from server.gunicorn_threads import Outcome, Threads

COUNT = 4
PATIENCE_S = 10.0
Told = SimpleQueue[tuple[int, Outcome[int]]]


def _root(number: int) -> int:
    if number < 0:
        raise SystemExit(number)
    return number * number


@pytest.fixture
def told() -> Told:
    return SimpleQueue()


@pytest.fixture
def threads(told: Told) -> Iterator[Threads[int, int]]:
    before = set(threading.enumerate())
    found: Threads[int, int] = Threads(COUNT, _root, lambda job, outcome: told.put((job, outcome)))
    yield found
    found.shutdown(wait=False)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_each_job_is_done_once_and_its_outcome_told(threads: Threads[int, int], told: Told) -> None:
    for number in range(500):
        threads.put(number)
    outcomes = dict(told.get(timeout=PATIENCE_S) for _ in range(500))
    assert {job: one.result() for job, one in outcomes.items()} == {n: n * n for n in range(500)}
    assert not any(one.cancelled() for one in outcomes.values())
    assert told.empty()


def test_what_a_job_raises_is_its_outcome_and_ends_no_thread(
    threads: Threads[int, int], told: Told
) -> None:
    for _ in range(COUNT * 2):
        threads.put(-1)
    for _ in range(COUNT * 2):
        _, outcome = told.get(timeout=PATIENCE_S)
        with pytest.raises(SystemExit):
            outcome.result()
    threads.put(3)
    assert told.get(timeout=PATIENCE_S)[1].result() == 9


def test_jobs_run_side_by_side_and_no_more_than_there_are_threads() -> None:
    gate, running = threading.Barrier(COUNT + 1), []
    ended: SimpleQueue[Any] = SimpleQueue()

    def work(number: int) -> None:
        running.append(number)
        gate.wait(PATIENCE_S)

    threads: Threads[int, None] = Threads(COUNT, work, lambda job, _: ended.put(job))
    for number in range(2 * COUNT):
        threads.put(number)
    for _ in range(2):
        gate.wait(PATIENCE_S)
        assert {ended.get(timeout=PATIENCE_S) for _ in range(COUNT)}
    assert sorted(running) == list(range(2 * COUNT))
    threads.shutdown()


def test_before_there_is_something_to_do_there_is_no_thread() -> None:
    before = threading.active_count()
    threads: Threads[int, int] = Threads(COUNT, _root, lambda _job, _outcome: None)
    assert threading.active_count() == before
    threads.shutdown()
