"""The threads of one gunicorn worker: they take connections from a queue, and say what came of it.

gunicorn's own are Python's ThreadPoolExecutor: a future, its callbacks and two conditions for each
request, all in Python. This is a queue in C (docs/decisions.md has what that saves).

Promises. Connections are taken in the order in which they came, each by one thread. `done` is told
of each, with an Outcome that answers as a finished future does; what the work raised is in it.
Bounds: `count` threads, started when there is first something to do. What waits is bounded by the
worker's number of connections. The threads keep no process alive.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Outcome(Generic[Result]):
    """What came of a piece of work: as much of concurrent.futures.Future as gunicorn asks for."""

    def __init__(self, result: Result | None, error: BaseException | None) -> None:
        self._result = result
        self._error = error

    def cancelled(self) -> bool:
        """Nothing is ever taken back."""
        return False

    def result(self) -> Result | None:
        """What the work returned. Raises what the work raised."""
        if self._error is not None:
            raise self._error
        return self._result


class Threads(Generic[Job, Result]):
    """`work` is done in one of `count` threads, and so is `done` after it."""

    def __init__(
        self,
        count: int,
        work: Callable[[Job], Result],
        done: Callable[[Job, Outcome[Result]], None],
    ) -> None:
        self._count = count
        self._work = work
        self._done = done
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._is_started = False

    def put(self, job: Job) -> None:
        """Have a piece of work done. Called by one thread only."""
        if not self._is_started:
            self._is_started = True
            for number in range(self._count):
                name = f"request-{number}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        self._jobs.put(job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end when all that was put is done; named and called as an executor's."""
        del wait, cancel_futures
        for _ in range(self._count):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                outcome = Outcome(self._work(job), None)
            except BaseException as error:  # noqa: BLE001  the outcome has it
                outcome = Outcome(None, error)
            self._done(job, outcome)
            # What is referred to by a thread that waits would live on.
            del job, outcome
