"""HTTP by hand: handlers for raw servers, and a deadline that must hold."""

import time

import pytest

from server.core.errors import FetchFailed

# A deadline that tests wait for, and by how much it may be missed on a busy machine. Seconds.
SHORT_S = 0.4
SLACK_S = 1.5


def read_request(connection) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(4096)
        if not piece:
            return data
        data += piece
    return data


def respond(status="200 OK", body=b"{}", headers=(), requests=None, keep=False):
    """A handler that answers every request of a connection alike."""

    def handle(connection):
        while request := read_request(connection):
            if requests is not None:
                requests.append(request)
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            if not keep:
                return

    return handle


def get(fetcher, server, path="/x", deadline_s=5.0, max_bytes=100_000, **params):
    url = f"http://127.0.0.1:{server.port}{path}"
    return fetcher.get_json(url, params or None, deadline_s=deadline_s, max_bytes=max_bytes)


def assert_late(ask):
    started = time.monotonic()
    with pytest.raises(FetchFailed, match="no complete answer in time"):
        ask()
    assert SHORT_S * 0.9 < time.monotonic() - started < SHORT_S + SLACK_S
