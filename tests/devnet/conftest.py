"""Fixtures: the official network once a run, our service on both databases."""

from __future__ import annotations

import faulthandler
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.devnet.client import Network
from tests.devnet.install import RegistryUnreachable
from tests.devnet.network import OfficialNetwork
from tests.devnet.service import Service

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def _patience() -> None:
    # These tests take minutes by nature; a dump of all threads each minute would only be noise.
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def official() -> Iterator[OfficialNetwork]:
    """The running official network.

    Only a registry that does not answer is a reason to skip; whatever else goes wrong is a failure.
    """
    faulthandler.cancel_dump_traceback_later()
    try:
        with OfficialNetwork() as network:
            yield network
    except RegistryUnreachable as unreachable:
        pytest.skip(f"OFFICIAL SERVERS NOT INSTALLABLE, NOTHING OF THIS WAS TESTED: {unreachable}")


@pytest.fixture(scope="session")
def network(official: OfficialNetwork) -> Iterator[Network]:
    """A client of it."""
    with Network(official.info) as client:
        yield client


@pytest.fixture
def forgetful(official: OfficialNetwork) -> Iterator[OfficialNetwork]:
    """Another network, whose PDS replays nothing that is older than a moment."""
    assert official.info
    with OfficialNetwork(stream_window_ms=500) as network:
        yield network


@pytest.fixture(scope="session")
def new_service(
    official: OfficialNetwork, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Service]:
    """Makes a service with an empty database of a kind; it is neither published nor started."""

    def new_service(kind: str) -> Service:
        folder: Path = tmp_path_factory.mktemp("service")
        url = f"sqlite:///{folder / 'gapless.db'}"
        if kind == "postgresql":
            url = official.postgres.create_database(f"gapless_{secrets.token_hex(6)}")
        return Service(network.info, network.account("publisher"), url, folder)

    return new_service


@pytest.fixture(scope="module", params=DATABASES)
def shared_service(
    request: pytest.FixtureRequest, network: Network, new_service: Callable[[str], Service]
) -> Iterator[Service]:
    """Our service on either database, for tests that leave it running."""
    with ExitStack() as stack:
        yield _run(new_service(request.param), network, stack)


@pytest.fixture(params=DATABASES)
def service(
    request: pytest.FixtureRequest, network: Network, new_service: Callable[[str], Service]
) -> Iterator[Service]:
    """Our service on either database, for one test to do with as it likes."""
    with ExitStack() as stack:
        yield _run(new_service(request.param), network, stack)


def _run(service: Service, network: Network, stack: ExitStack) -> Service:
    # Ready, its feeds published and known to the AppView.
    stack.callback(service.stop)
    service.publish()
    service.start()
    network.settle()
    return service
