"""Fixtures of the whole suite: both databases, the lead, a network that ends at this machine."""

import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from server.storage import leases
from server.storage.database import close_database
from server.storage.leases import Lease
from server.storage.migrate import migrate
from server.storage.opening import open_database
from tests.builders import EMPTY_ALL, NOW_US
from tests.devnet.postgres import Postgres

DATABASES = ("sqlite", "postgresql")

# Kind of attack -> how many were tried, how many were refused as they should be.
_ATTACKS: pytest.StashKey[dict[str, list[int]]] = pytest.StashKey()

# What tests measured, for people: it is shown at the end of the run.
_REPORT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ATTACKS] = {}
    config.stash[_REPORT] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the tests that are marked as attacks: one case, one attack."""
    report = yield
    for mark in item.iter_markers("attack"):
        if report.when == "call" and not report.skipped:
            tried = item.config.stash[_ATTACKS].setdefault(mark.args[0], [0, 0])
            tried[0] += 1
            tried[1] += report.passed
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[_REPORT]:
        terminalreporter.write_line(line)
    attacks = config.stash[_ATTACKS]
    if attacks:
        got_in = sum(tried - refused for tried, refused in attacks.values())
        each = ", ".join(f"{kind} {tried}" for kind, (tried, _) in sorted(attacks.items()))
        terminalreporter.write_line(f"attacks tried: {each}; got in: {got_in}")


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Say something at the end of the run, whether tests fail or not."""
    return pytestconfig.stash[_REPORT].append


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """No test talks to anybody but this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Callable[..., object]) -> Callable[..., object]:
    def guarded(self: socket.socket, address: object) -> object:
        if self.family != socket.AF_UNIX:
            host = str(address[0])  # type: ignore[index]
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise AssertionError(f"a test wants to talk to {address}")
        return connect(self, address)

    return guarded


class PostgresDatabases:
    """A migrated database that each test finds empty, and others for tests that break theirs."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self.shared = f"gapless_{secrets.token_hex(4)}"

    def url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    def create(self, name: str) -> str:
        """A new database without tables; its URL."""
        self._run(self.admin_url, f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop(self, name: str) -> None:
        self._run(self.admin_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def empty(self) -> None:
        """Make the shared database as good as new: a tenth of what a new one would take."""
        # A test that leaves a transaction open is to fail here, and not to hang.
        self._run(self.url(self.shared), "SET lock_timeout = '5s'; " + EMPTY_ALL)

    def _run(self, url: str, statement: str) -> None:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresDatabases]:
    """A PostgreSQL: the one that TEST_DATABASE_URL names, or our own; with a migrated template."""
    given = os.environ.get("TEST_DATABASE_URL")
    server = None if given else Postgres()
    try:
        if server is not None:
            server.start()
        databases = PostgresDatabases(given or server.url())
        open_database(databases.create(databases.shared))
        migrate()
        yield databases
        databases.drop(databases.shared)
    finally:
        if server is not None:
            server.stop()


@pytest.fixture(scope="session")
def sqlite_template() -> Iterator[Path]:
    """A migrated SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="gapless-"))
    open_database(f"sqlite:///{folder / 'template.db'}")
    migrate()
    yield folder / "template.db"
    shutil.rmtree(folder)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    shutil.copy(sqlite_template, tmp_path / "gapless.db")
    return f"sqlite:///{tmp_path / 'gapless.db'}"


@pytest.fixture
def postgres_url(postgres: PostgresDatabases) -> Iterator[str]:
    """A migrated PostgreSQL database with nothing in it."""
    yield postgres.url(postgres.shared)
    postgres.empty()


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of either kind."""
    return str(request.getfixturevalue(f"{request.param.removesuffix('ql')}_url"))


@pytest.fixture
def db(database_url: str) -> Iterator[str]:
    """A fresh database of either kind, open in this thread."""
    yield from _opened(database_url)


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[str]:
    """A fresh SQLite database, open in this thread."""
    yield from _opened(sqlite_url)


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[str]:
    """A fresh PostgreSQL database, open in this thread."""
    yield from _opened(postgres_url)


def _opened(url: str) -> Iterator[str]:
    open_database(url, max_connections=16)
    yield url
    close_database()


@pytest.fixture
def lease(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """The lead, held by this test over the database that it opened."""
    if not {"db", "sqlite", "postgresql"} & set(request.fixturenames):
        request.getfixturevalue("db")
    held = leases.acquire("test", NOW_US)
    assert held is not None
    yield held
    held.release()
