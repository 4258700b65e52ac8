"""What must stay with us: the database's password, tokens. Looked for wherever it could get out."""

import http.client
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

from server.core.config import load_config
from simnet import Network, PatientClock
from tests.system.databases import StoppablePostgres
from tests.system.service import Service
from tests.system.waiting import wait_until

PASSWORD = "correct-horse-battery"  # noqa: S105  nobody's
PATHS = (
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/nothing",
    "/.well-known/did.json",
    "/xrpc/_health",
    "/xrpc/app.bsky.feed.describeFeedGenerator",
    "/xrpc/app.bsky.feed.getFeedSkeleton?feed=x",
)


def with_password(url: str) -> str:
    """The same address, with a password that the server does not ask for (it trusts loopback)."""
    parts = urlsplit(url)
    place = f"{parts.username or 'postgres'}:{PASSWORD}@{parts.hostname}"
    return urlunsplit(parts._replace(netloc=f"{place}:{parts.port}"))


@pytest.fixture
def told(tmp_path: Path, postgres: StoppablePostgres) -> Iterator[tuple[Service, Network]]:
    with Network(seed=29, pds=2, clock=PatientClock()) as net:
        publisher = net.create_account("publisher")
        settings = {
            **net.environment(publisher),
            "DATABASE_URL": with_password(postgres.url()),
            "LOG_LEVEL": "DEBUG",
        }
        service = Service(settings, tmp_path)
        try:
            service.start()
            yield service, net
        finally:
            service.end()


def everything_said(service: Service, feed: str, authorization: str) -> str:
    """All that our pages and errors say."""
    said = []
    for path in (*PATHS, feed):
        for headers in ({}, {"Authorization": authorization}):
            with closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                said.append(f"{response.getheaders()} {response.read()!r}")
    return "\n".join(said)


def test_neither_password_nor_token_gets_out_also_when_the_database_is_gone(
    told: tuple[Service, Network], postgres: StoppablePostgres
) -> None:
    service, net = told
    viewer = net.create_account("viewer")
    token = net.service_token(viewer, service.did, "app.bsky.feed.getFeedSkeleton")
    uri = f"at://{net.account('publisher').did}/app.bsky.feed.generator/following"
    feed = "/xrpc/app.bsky.feed.getFeedSkeleton?feed=" + quote(uri, safe="")
    assert service.status_of("/ready") == 200
    said = everything_said(service, feed, f"Bearer {token}")
    titles = "\n".join(member.command for member in service.family())
    postgres.go_away(signal.SIGINT)
    try:
        wait_until(lambda: service.status_of("/ready") == 503, 20, "the database is missed")
        said += everything_said(service, feed, f"Bearer {token}")
    finally:
        postgres.come_back()
    titles += "\n".join(member.command for member in service.family())
    log = service.log_path.read_text()
    assert "gunicorn" in titles
    assert "database failed" in log
    for text in (said, titles, log):
        assert PASSWORD not in text
        assert token not in text
        # Not the signature alone, either.
        assert token.rpartition(".")[2] not in text


def test_settings_that_cannot_be_used_are_named_without_the_password(tmp_path: Path) -> None:
    service = Service({"DATABASE_URL": f"postgresq://u:{PASSWORD}@h/x"}, tmp_path)
    service.launch()
    assert service.wait(20) == 2
    log = service.log_path.read_text()
    assert "DATABASE_URL" in log
    assert PASSWORD not in log


def test_the_settings_do_not_show_the_password_when_they_are_printed() -> None:
    assert PASSWORD not in repr(load_config({"DATABASE_URL": f"postgresql://u:{PASSWORD}@h/x"}))


def test_an_image_holds_no_settings_and_no_data() -> None:
    root = Path(__file__).parents[2]
    ignored = (root / ".dockerignore").read_text().split()
    assert ".env" in ignored or "*" in ignored
    dockerfile = (root / "Dockerfile").read_text()
    for name in ("PASSWORD", "DATABASE_URL=postgres", "ADMIN_TOKEN", "ARG "):
        assert name not in dockerfile
