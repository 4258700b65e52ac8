"""Fixtures of the whole suite: both databases, the lead, a network that ends at this machine."""

import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from hypothesis import settings

from server.storage import leases
from server.storage.database import close_database
from server.storage.leases import Lease
from server.storage.migrate import migrate
from server.storage.opening import open_database
from tests import touch_audit
from tests.builders import EMPTY_ALL, NOW_US
from tests.devnet.postgres import Postgres
from tests.dns_server import DnsServer
from tests.standby import Streaming

DATABASES = ("sqlite", "postgresql")

# What an example takes says how busy the machine is, and no more.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# What tests tell the end of the run, which may be another process's: text, and kinds of attacks.
SAID, ATTACK = "said", "attack"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_LastWords())


class _LastWords:
    """Shows at the end what tests said, and how many attacks were tried and got in."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.tried: Counter[str] = Counter()
        self.got_in = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a test said is in the report of its last part, attacks in that of its call."""
        if report.when == "teardown":
            self.said += [str(text) for name, text in report.user_properties if name == SAID]
        if report.when == "call" and not report.skipped:
            kinds = [str(kind) for name, kind in report.user_properties if name == ATTACK]
            self.tried.update(kinds)
            self.got_in += len(kinds) * report.failed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.said:
            terminalreporter.write_line(line)
        if self.tried:
            each = ", ".join(f"{kind} {count}" for kind, count in sorted(self.tried.items()))
            terminalreporter.write_line(f"attacks tried: {each}; got in: {self.got_in}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """One case of a test that is marked as an attack is one attack."""
    item.user_properties += [(ATTACK, mark.args[0]) for mark in item.iter_markers("attack")]


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something at the end of the run, whether tests fail or not."""
    return lambda text: request.node.user_properties.append((SAID, text))


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


@pytest.fixture
def dns_server() -> Iterator[DnsServer]:
    """A DNS server that knows nothing yet."""
    server = DnsServer()
    yield server
    server.close()


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
        with closing(psycopg2.connect(self.url(self.shared))) as connection:
            cursor = connection.cursor()
            cursor.execute(touch_audit.DOUBLED)
            assert not cursor.fetchall()
        # A test that leaves a transaction open is to fail here, and not to hang.
        self._run(self.url(self.shared), "SET lock_timeout = '5s'; " + EMPTY_ALL)
        self._run(self.url(self.shared), "DELETE FROM touched")

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
def streaming() -> Iterator[Streaming]:
    """A PostgreSQL of our own with a streaming replica, and a migrated database in both."""
    servers = Streaming()
    try:
        servers.start()
        open_database(servers.primary_url)
        migrate()
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def sqlite_template() -> Iterator[Path]:
    """A migrated SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="gapless-"))
    open_database(f"sqlite:///{folder / 'template.db'}")
    migrate()
    close_database()
    touch_audit.install(folder / "template.db")
    yield folder / "template.db"
    shutil.rmtree(folder)


@pytest.fixture
def sqlite_url(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path
) -> Iterator[str]:
    """A fresh, migrated SQLite database, in which nothing is touched without a word."""
    path = tmp_path / "gapless.db"
    shutil.copy(sqlite_template, path)
    yield f"sqlite:///{path}"
    if request.node.get_closest_marker("by_hand") is None:
        assert not touch_audit.untold(path)


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
