"""A directory, a store, a clock and raw servers for the identity tests."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from server.core.errors import NotFound
from server.identity.cache import IdentityCache
from server.identity.did import parse_document
from server.identity.fetcher import Fetcher
from server.identity.service_auth import verify
from server.identity.txt_records import TxtRecords
from server.storage.authors import StoredIdentity
from tests.identity.builders import (
    ALICE,
    LXM,
    NOW_S,
    SERVICE,
    b64,
    k256,
    make_document,
    make_token,
    p256,
    sign_parts,
)
from tests.identity.certificates import make_certificate


@dataclass
class FakeDirectory:
    """Documents by DID; an exception in place of one is raised. Counts what it was asked."""

    documents: dict[str, object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def resolve(self, did: str, deadline_s: float):
        self.asked.append(did)
        found = self.documents.get(did, NotFound("no such account"))
        if isinstance(found, Exception):
            raise found
        return parse_document(did, found)


@dataclass
class FakeStore:
    """The table of authors: saves only accounts that are in it."""

    rows: dict[str, StoredIdentity | None] = field(default_factory=dict)

    def load_identity(self, did: str) -> StoredIdentity | None:
        return self.rows.get(did)

    def save_identity(self, did, handle, pds_url, signing_key, checked_us) -> None:
        if did in self.rows:
            self.rows[did] = StoredIdentity(did, handle, pds_url, signing_key, checked_us)


class Clock:
    def __init__(self) -> None:
        self.us = NOW_S * 1_000_000

    def __call__(self) -> int:
        return self.us

    def pass_s(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


@pytest.fixture
def make() -> SimpleNamespace:
    """The builders that most tests need, under short names."""
    return SimpleNamespace(
        k256=k256,
        p256=p256,
        b64=b64,
        token=make_token,
        parts=sign_parts,
        document=make_document,
        ALICE=ALICE,
    )


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(directory, store, clock) -> IdentityCache:
    return IdentityCache(directory, store, clock)


@pytest.fixture
def serve() -> Iterator[Callable]:
    """Starts a server that hands each connection to a function; gives its port and its counter."""
    stop = threading.Event()
    started: list[tuple[socket.socket, threading.Thread]] = []

    def start(handle: Callable[[socket.socket], None], wrap=None) -> SimpleNamespace:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.02)
        server = SimpleNamespace(port=listener.getsockname()[1], connections=0, stop=stop)
        thread = threading.Thread(target=_accept, args=(listener, handle, wrap, server))
        thread.start()
        started.append((listener, thread))
        return server

    yield start
    stop.set()
    for listener, thread in started:
        thread.join(5)
        assert not thread.is_alive()
        listener.close()


def _accept(listener, handle, wrap, server) -> None:
    threads = []
    while not server.stop.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        server.connections += 1
        thread = threading.Thread(target=_handle, args=(connection, handle, wrap))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(5)


def _handle(connection, handle, wrap) -> None:
    connection.settimeout(5)
    try:
        if wrap is not None:
            connection = wrap(connection)
        handle(connection)
    except OSError:
        # The client has hung up, which is what most of these tests are about.
        pass
    finally:
        connection.close()


@pytest.fixture
def fetcher(serve) -> Iterator[Fetcher]:
    # After `serve`, so that it hangs up first: the servers wait for more requests.
    made = Fetcher(allow_private_hosts=True, user_agent="Gapless/test (+https://feed.example.com)")
    yield made
    made.close()


@pytest.fixture
def tls(tmp_path, serve):
    """Starts a TLS server for pds.example.com; gives it and a fetcher that trusts its issuer."""
    certificate, key = make_certificate(tmp_path, "pds.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    fetchers = []

    def start(handle, **options):
        server = serve(handle, wrap=lambda plain: context.wrap_socket(plain, server_side=True))
        server.names = names

        def resolve(host, port):
            return [(2, 1, 6, "", ("127.0.0.1", server.port))]

        options = {"ca_file": certificate} | options
        fetcher = Fetcher(True, user_agent="x", resolve=resolve, **options)
        fetchers.append(fetcher)
        return server, fetcher

    yield start
    for fetcher in fetchers:
        fetcher.close()


@pytest.fixture
def key(make):
    return make.k256()


@pytest.fixture
def alice(make, directory, key):
    directory.documents[make.ALICE] = make.document(make.ALICE, key.multikey)
    return make.ALICE


@pytest.fixture
def check(cache, alice, clock):
    def run(authorization, lxm=LXM):
        return verify(authorization, lxm=lxm, service_did=SERVICE, cache=cache, now_us=clock())

    return run


@pytest.fixture
def ask(dns_server):
    """Asks that server, or those, for the texts of a name."""

    def look_up(name="_atproto.ann.example.com", deadline_s=5.0, resolvers=None):
        records = TxtRecords(dns_server.resolvers if resolvers is None else lambda: resolvers)
        return records.look_up(name, deadline_s)

    return look_up
