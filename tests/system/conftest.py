"""A PostgreSQL server for the run; for each module and database a network with our service."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simnet import Account, Network, PatientClock
from tests.system.databases import KINDS, Database, PostgresDatabase, SqliteFile, StoppablePostgres
from tests.system.service import Service
from tests.system.truth import Reader

MakeDatabase = Callable[[str, Path], Database]
MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def postgres() -> Iterator[StoppablePostgres]:
    server = StoppablePostgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def make_database(request: pytest.FixtureRequest) -> MakeDatabase:
    """An empty database of a kind. The server is started for the first that needs it."""

    def make(kind: str, folder: Path) -> Database:
        if kind == "sqlite":
            return SqliteFile(folder / "feeds.db")
        return PostgresDatabase(request.getfixturevalue("postgres"))

    return make


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[MakeService]:
    """Services of one test: made, not started; ended after it."""
    made: list[Service] = []

    def make(net: Network, database: Database, **options: Any) -> Service:
        environ = options.pop("environ", {})
        settings = {**net.environment(), "DATABASE_URL": database.url, **environ}
        made.append(Service(settings, tmp_path, name=f"service{len(made)}", **options))
        return made[-1]

    yield make
    for service in made:
        service.end()


@dataclass
class Place:
    """A network, a database, and our service between them."""

    net: Network
    database: Database
    service: Service
    reader: Reader

    def viewer(self, name: str, *follows: Account) -> Account:
        """A new account that follows these already, silently."""
        viewer = self.net.create_account(name)
        for account in follows:
            viewer.follow(account, emit=False)
        return viewer


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest,
    make_database: MakeDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """One for the module: tests in it make accounts of their own."""
    folder = tmp_path_factory.mktemp("place")
    with Network(seed=11, pds=2, clock=PatientClock()) as net:
        publisher = net.create_account("publisher")
        database = make_database(request.param, folder)
        service = Service({**net.environment(publisher), "DATABASE_URL": database.url}, folder)
        try:
            service.start()
            yield Place(net, database, service, Reader(net, service, publisher))
            assert service.is_running, service.log_text()
            assert service.stop() == 0
            assert "Traceback" not in service.log_path.read_text(), service.log_text()
        finally:
            service.end()
