"""A network, and a subscriber that reads it in a thread of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from server.core.syntax import tid_to_int
from server.ingest import place, start, subscriber, websocket, writer
from server.ingest import reading as reading_module
from server.ingest.subscriber import Subscriber
from server.storage import leases, repos
from server.storage.authors import author_ids
from server.storage.cursors import load_cursor
from server.storage.database import database, write_transaction
from server.storage.gaps import open_gaps
from server.storage.leases import Lease
from simnet import Account, Network
from tests.builders import NOW_US, finish, job_of_did, store_snapshot

WAIT_SECONDS = 10.0


def wait_until(claim: Callable[[], object], what: str = "it") -> None:
    """Until the claim is true, or the patience is over."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not claim():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.005)


@pytest.fixture
def net() -> Iterator[Network]:
    with Network(seed=3) as network:
        yield network


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in life takes hundredths here; what is decided stays the same."""
    monkeypatch.setattr(subscriber, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(subscriber, "LONGEST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(subscriber, "REFRESH_SECONDS", 0.02)
    monkeypatch.setattr(reading_module, "STANDING_SECONDS", 0.05)
    monkeypatch.setattr(writer, "CURSOR_SECONDS", 0.05)
    monkeypatch.setattr(writer, "BATCH_SECONDS", 0.02)
    monkeypatch.setattr(websocket, "TICK_SECONDS", 0.01)


@pytest.fixture
def quick_change(monkeypatch: pytest.MonkeyPatch, brisk: None) -> None:
    """Changes of source as they are, but soon; a network of a second has an overlap of less."""
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 1)
    monkeypatch.setattr(subscriber, "FIRST_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(subscriber, "PROBE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(start, "PROBE_EVENTS", 1)
    monkeypatch.setattr(start, "OVERLAP_MS", 0)
    monkeypatch.setattr(place, "WITNESSES", 1)


class Running:
    """A subscriber in its thread, and what it raised in the end."""

    def __init__(self, urls: tuple[str, ...], epoch: int, **options: Any) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        groups = [url.split("+") for url in urls]
        self.subscriber = Subscriber(groups, "Gapless/test", epoch, self.stop, **options)
        self.thread = threading.Thread(target=self._run, name="subscriber")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.subscriber.run()
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error
        finally:
            database.close()


@pytest.fixture
def reading(brisk: None, lease: Lease) -> Callable[..., object]:
    """Read some sources while the block runs; what the subscriber raised comes out at its end.

    Sources joined by `+` are read together. `options` are the subscriber's.
    """

    @contextmanager
    def run(*urls: str, **options: Any) -> Iterator[Running]:
        running = Running(urls, lease.epoch, **options)
        try:
            yield running
        finally:
            running.stop.set()
            running.thread.join(WAIT_SECONDS)
        assert not running.thread.is_alive()
        if running.error is not None:
            raise running.error

    return run


@pytest.fixture
def tracked(lease: Lease) -> Callable[..., None]:
    """Track accounts, and end their backfill as if it had read them just now."""

    def track(*accounts: Account, wants: int = repos.ITEMS) -> None:
        numbers = author_ids(account.did for account in accounts)
        with write_transaction():
            repos.track(numbers.values(), wants, NOW_US)
        heal(*accounts)

    def heal(*accounts: Account) -> None:
        for account in accounts:
            job = job_of_did(account.did, lease.epoch)
            assert job is not None
            rev = tid_to_int(account.state.repo.head.rev)
            assert store_snapshot(job, rev, lease.epoch)
            assert finish(job, 0, lease.epoch)
        leases.confirm(lease.epoch, -1)

    return track


@pytest.fixture
def alice(net: Network) -> Account:
    """Somebody."""
    return net.create_account("alice")


@pytest.fixture
def bob(net: Network) -> Account:
    """Somebody else."""
    return net.create_account("bob")


@pytest.fixture
def at_rest(net, alice, bob, tracked, reading) -> None:
    """Two live authors, a cursor, no gap, nobody reading."""
    with reading(net.relay.url):
        wait_until(lambda: net.relay.stream.readers == 1)
        net.create_account("somebody")
        source = f"127.0.0.1:{net.relay.server.port}"
        wait_until(lambda: (at := load_cursor(source)) and at.seq == net.relay.stream.last_seq)
    tracked(alice, bob)
    assert open_gaps(9) == []
