"""A network to be read from, and what a backfill needs of the world."""

import time
from threading import Event as StopEvent
from threading import Thread

import pytest

from server.backfill import reconcile
from server.backfill.reconcile import Reconcile
from server.backfill.sources import Sources
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.storage import viewers
from server.storage.database import release
from simnet import Network
from tests.backfill.accounts import fetch, track
from tests.builders import NOW_US

WAIT_SECONDS = 20


@pytest.fixture
def net():
    with Network(seed=5, pds=2) as network:
        yield network


@pytest.fixture
def sources(net, lease):
    fetcher = Fetcher(allow_private_hosts=True, user_agent="Gapless/test")
    yield Sources(fetcher, Directory(net.plc.url, fetcher), 7, 3650, lease.epoch)
    fetcher.close()


@pytest.fixture
def alice(net, sources):
    """Somebody whose repo is complete here."""
    account = net.create_account("alice")
    account.post("one")
    track(account)
    fetch(account, sources)
    return account


@pytest.fixture
def viewer(net, alice, sources):
    """A viewer who follows alice, was here just now, and whose repo is complete."""
    account = net.create_account("viewer")
    account.follow(alice)
    number = viewers.welcome(account.did, NOW_US)
    viewers.touch(number, time.time_ns() // 1000)
    fetch(account, sources)
    return account


@pytest.fixture
def watch(sources, monkeypatch):
    """A reconciliation whose rounds follow each other without a rest."""
    monkeypatch.setattr(reconcile, "ROUND_HOURS", 0)

    def make(*, carries_chain=None):
        chain = () if carries_chain is None else (lambda: carries_chain,)
        return Reconcile(sources, StopEvent(), *chain)

    return make


@pytest.fixture
def running():
    """Bodies of threads, ended and joined after the test; what they raise fails it."""
    stop, threads, errors = StopEvent(), [], []

    def start(make):
        def body():
            try:
                make(stop).run()
            except BaseException as error:  # noqa: BLE001  it is raised again below
                errors.append(error)
            finally:
                release()

        threads.append(Thread(target=body))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert errors == []
