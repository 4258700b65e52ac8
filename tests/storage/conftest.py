"""Pages read with a replica at hand, and where they came from."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from server.storage import replicas, viewers, wal
from server.storage.database import close_database, database
from server.storage.opening import open_database
from server.storage.replicas import Replicas
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    follow,
    new_epoch,
    number_of,
    post,
    tid,
    track,
    wipe,
)
from tests.standby import Standby, Streaming
from tests.system.waiting import wait_until

R = TypeVar("R")

_BOUNDS = (wal.MAX_LAG_SECONDS, replicas.MAX_SECONDS)


class Reading:
    """Reads by way of replicas. `places`: where pages came from; `refusals`: why not from there."""

    def __init__(self, *urls: str, max_connections: int = 8) -> None:
        self.places: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.replicas = Replicas(urls, max_connections, self._page, self._refusal)

    def _page(self, place: str) -> None:
        self.places["primary" if place == "primary" else "replica"] += 1

    def _refusal(self, _name: str, reason: str) -> None:
        self.refusals[reason] += 1

    def read(self, ask: Callable[[], R]) -> R:
        return self.replicas.read(ask)

    def settle(self) -> None:
        """Wait until the replica is read from; then count anew."""

        def is_used() -> bool:
            self.places.clear()
            self.read(lambda: None)
            return self.places["replica"] == 1

        wait_until(is_used, 20, lambda: f"the replica is used: {self.replicas.look()}")
        self.places.clear()
        self.refusals.clear()


@pytest.fixture
def replicated(streaming: Streaming) -> Iterator[Streaming]:
    """The primary open in this thread, with nothing in it."""
    open_database(streaming.primary_url, max_connections=40)
    wipe()
    yield streaming
    close_database()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not the point, a replica may be late: the machine is busy with other tests."""
    monkeypatch.setattr(wal, "MAX_LAG_SECONDS", 10.0)
    monkeypatch.setattr(replicas, "MAX_SECONDS", 20.0)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds as they are."""
    monkeypatch.setattr(wal, "MAX_LAG_SECONDS", _BOUNDS[0])
    monkeypatch.setattr(replicas, "MAX_SECONDS", _BOUNDS[1])


@pytest.fixture
def make_reading(patient: None) -> Iterator[Callable[..., Reading]]:
    """Ways to read, whose connections are closed after the test."""
    made: list[Reading] = []

    def make(*urls: str, **options: int) -> Reading:
        made.append(Reading(*urls, **options))
        return made[-1]

    yield make
    for one in made:
        one.replicas.close()


@pytest.fixture
def reading(replicated: Streaming, make_reading: Callable[..., Reading]) -> Reading:
    """Pages come from the replica."""
    found = make_reading(replicated.replica_url)
    found.settle()
    return found


@pytest.fixture
def standby(streaming: Streaming) -> Iterator[Standby]:
    """A replica of the test's own, to be ruined."""
    server = Standby(streaming.primary)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def stream(replicated: Streaming) -> Stream:
    """A viewer who follows two authors with ten posts each."""
    stream = Stream(new_epoch())
    viewers.welcome(did("vera"), NOW_US)
    track("ann", "ben")
    stream.say("vera", follow(tid(1), "ann"), follow(tid(2), "ben"))
    for number in range(10):
        for name in ("ann", "ben"):
            stream.say(name, post(tid(number), NOW_MS + number, tie=number_of(name)))
    return stream


@pytest.fixture
def together():
    """Run functions at once, each in a thread with a connection of its own; raise what they do."""

    def run(*bodies):
        errors = []

        def guarded(body):
            try:
                body()
            except Exception as error:  # noqa: BLE001  it is raised again below
                errors.append(error)
            finally:
                database.close()

        threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        for error in errors:
            raise error

    return run
