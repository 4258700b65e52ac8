"""One real service for each database, spoken to by plain sockets."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from simnet import Account, Network, PatientClock
from tests.devnet.postgres import Postgres
from tests.system.databases import KINDS, Database, PostgresDatabase, SqliteFile
from tests.system.service import Service
from tests.system.truth import Reader

# For modules to which the database does not matter.
ON_SQLITE = pytest.mark.parametrize("site", ["sqlite"], indirect=True, scope="package")

SKELETON = "/xrpc/app.bsky.feed.getFeedSkeleton"
GET_SKELETON = "app.bsky.feed.getFeedSkeleton"

# For modules to which the database does not matter.
ON_SQLITE = pytest.mark.parametrize("site", ["sqlite"], indirect=True, scope="package")


@dataclass(frozen=True)
class Answer:
    """What came back. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    def error(self) -> tuple[int, str]:
        """Status and name of an XRPC error, whose body has the right shape."""
        body = self.json()
        assert body.keys() == {"error", "message"}
        assert isinstance(body["message"], str)
        assert body["message"]
        assert body["error"].isalnum()
        assert "Traceback" not in body["message"]
        return self.status, body["error"]


@dataclass
class Site:
    """A running service, the network around it, and ways to ask."""

    net: Network
    database: Database
    service: Service
    reader: Reader
    viewer: Account

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        address = ("127.0.0.1", self.service.port)
        with closing(http.client.HTTPConnection(*address, timeout=15)) as connection:
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, headers)

    def raw(self, request: bytes) -> bytes:
        """Send bytes, say that there are no more, and take what comes until the end."""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=15) as sock:
            received = b""
            with suppress(ConnectionError):
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                while piece := sock.recv(65_536):
                    received += piece
            return received

    def token(self, account: Account | None = None, **forged: Any) -> str:
        """An Authorization header; `forged` as in Network.service_token."""
        aud, lxm = forged.pop("aud", self.service.did), forged.pop("lxm", GET_SKELETON)
        signed = self.net.service_token(account or self.viewer, aud, lxm, **forged)
        return f"Bearer {signed}"

    def skeleton(self, query: str, account: Account | None = None) -> Answer:
        """getFeedSkeleton of the viewer with this query as it is."""
        return self.get(f"{SKELETON}?{query}", Authorization=self.token(account))


def target(site):
    return f"{SKELETON}?feed=" + quote(site.reader.uri(), safe="")


def refused(answer):
    """The name of a refusal; all of them have status, header and body right."""
    status, name = answer.error()
    assert status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    # Clients take these two for trouble with their own session.
    assert name not in ("ExpiredToken", "InvalidToken")
    return name


def _postgres(request: pytest.FixtureRequest) -> Postgres:
    server = Postgres()
    request.addfinalizer(server.stop)
    server.start()
    return server


def make_site(net: Network, database: Database, folder: Path, **environ: str) -> Site:
    """A service with a viewer who follows one author of 60 posts."""
    publisher = net.create_account("publisher")
    settings = {**net.environment(publisher), "DATABASE_URL": database.url, **environ}
    service = Service(settings, folder)
    reader = Reader(net, service, publisher)
    author, viewer = net.create_account("author", pds=1), net.create_account("viewer")
    for number in range(60):
        author.post(f"post {number}")
    viewer.follow(author, emit=False)
    return Site(net, database, service, reader, viewer)


@contextmanager
def settled(site: Site) -> Iterator[Site]:
    """Ready, and the viewer's feed complete; in the end, a service that has nothing to regret."""
    try:
        site.service.start()
        site.reader.settle(site.viewer, database=site.database)
        yield site
        assert site.service.stop() == 0
        log = site.service.log_path.read_text()
        assert "Traceback" not in log, site.service.log_text()
        assert "unexpected error" not in log, site.service.log_text()
    finally:
        site.service.end()


@pytest.fixture(scope="package", params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Ready, and the viewer's feed complete; on each database."""
    folder = tmp_path_factory.mktemp("site")
    database: Database
    if request.param == "sqlite":
        database = SqliteFile(folder / "feeds.db")
    else:
        database = PostgresDatabase(_postgres(request))
    with (
        Network(seed=13, pds=2, clock=PatientClock()) as net,
        settled(make_site(net, database, folder)) as site,
    ):
        yield site
