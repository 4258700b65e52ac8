"""A running network for each test, and readers of its streams and methods."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from atproto import firehose_models, parse_subscribe_repos_message
from websockets.sync.client import ClientConnection, connect

from simnet import Network

WAIT_SECONDS = 5.0


@pytest.fixture
def net() -> Iterator[Network]:
    with Network(seed=7, pds=2) as network:
        yield network


@pytest.fixture
def subscribe() -> Callable[..., AbstractContextManager[ClientConnection]]:
    """Connect to a stream, at a cursor or live."""

    @contextmanager
    def connected(url: str, cursor: int | None = None) -> Iterator[ClientConnection]:
        address = url if cursor is None else f"{url}?cursor={cursor}"
        with connect(address, compression=None, max_size=None, max_queue=None) as socket:
            yield socket

    return connected


@pytest.fixture
def take() -> Callable[[ClientConnection, int], list[Any]]:
    """The next frames; TimeoutError if they do not come."""

    def frames(socket: ClientConnection, count: int) -> list[Any]:
        return [socket.recv(timeout=WAIT_SECONDS) for _ in range(count)]

    return frames


@pytest.fixture
def events(take) -> Callable[[ClientConnection, int], list[tuple[str, Any]]]:
    """The next frames as the official SDK reads them: kind and message."""

    def parsed(socket: ClientConnection, count: int) -> list[tuple[str, Any]]:
        frames = [firehose_models.Frame.from_bytes(frame) for frame in take(socket, count)]
        return [(frame.header.t, parse_subscribe_repos_message(frame)) for frame in frames]

    return parsed


@pytest.fixture
def get() -> Callable[..., tuple[int, Any, dict[str, str]]]:
    """GET something: status, JSON or bytes, headers in lower case."""

    def ask(origin: str, method: str, **query: Any) -> tuple[int, Any, dict[str, str]]:
        path = method if method.startswith("/") else f"/xrpc/{method}"
        url = f"{origin}{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - http only
                return answer.status, _body(answer), _lower(answer.headers)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, _body(refused), _lower(refused.headers)

    return ask


def _body(answer: Any) -> Any:
    raw = answer.read()
    return json.loads(raw) if "json" in answer.headers["content-type"] else raw


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
