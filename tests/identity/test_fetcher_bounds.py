"""Servers that send too much, too slowly or nonsense, over real sockets."""

import gzip
import json
import threading
import tracemalloc

import pytest

from server.core.errors import FetchFailed, TooLarge
from server.identity.fetcher import Fetcher
from tests.identity.wire import SHORT_S, assert_late, get, read_request, respond

pytestmark = pytest.mark.attack("strangers' servers")


@pytest.mark.parametrize(
    "drip",
    [
        b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ],
)
def test_headers_that_drip_do_not_hold_us_beyond_the_deadline(fetcher, serve, drip):
    def handle(connection):
        read_request(connection)
        for byte in drip:
            connection.sendall(bytes([byte]))
            if server.stop.wait(0.05):
                return

    server = serve(handle)
    assert_late(lambda: get(fetcher, server, deadline_s=SHORT_S))


@pytest.mark.parametrize("headers", ["Content-Length: 9999", "Transfer-Encoding: chunked"])
def test_a_body_that_drips_does_not_hold_us_beyond_the_deadline(fetcher, serve, headers):
    def handle(connection):
        read_request(connection)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode())
        while not server.stop.wait(0.05):
            connection.sendall(b"1\r\na\r\n" if "chunked" in headers else b"a")

    server = serve(handle)
    assert_late(lambda: get(fetcher, server, deadline_s=SHORT_S))


def test_a_host_that_says_nothing_does_not_hold_us_beyond_the_deadline(fetcher, serve):
    server = serve(lambda connection: server.stop.wait(5))
    assert_late(lambda: get(fetcher, server, deadline_s=SHORT_S))


def test_a_handshake_that_never_ends_does_not_hold_us_beyond_the_deadline(fetcher, serve):
    server = serve(lambda connection: server.stop.wait(5))
    url = f"https://127.0.0.1:{server.port}/"
    assert_late(lambda: fetcher.get_json(url, deadline_s=SHORT_S, max_bytes=10))


def test_a_name_lookup_that_hangs_does_not_hold_us_beyond_the_deadline():
    release = threading.Event()

    def hang(host, port):
        release.wait(5)
        return []

    fetcher = Fetcher(False, user_agent="x", resolve=hang)
    url = "https://slow-dns.example.com/"
    assert_late(lambda: fetcher.get_json(url, deadline_s=SHORT_S, max_bytes=10))
    release.set()
    fetcher.close()


def test_a_body_is_cut_off_at_the_cap(fetcher, serve):
    sent = []

    def endless(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
        while not server.stop.is_set():
            sent.append(connection.send(b"1," * 50_000))

    server = serve(endless)
    with pytest.raises(TooLarge):
        get(fetcher, server, max_bytes=1000)
    assert sum(sent) < 20_000_000
    fine = serve(respond(body=b"[" + b" " * 998 + b"]"))
    assert get(fetcher, fine, max_bytes=1000) == []
    large = serve(respond(body=b"[" + b" " * 999 + b"]"))
    with pytest.raises(TooLarge):
        get(fetcher, large, max_bytes=1000)


def test_a_gzip_bomb_is_cut_off_after_decompression(fetcher, serve):
    bomb = gzip.compress(b"[" + b" " * 60_000_000 + b"]", compresslevel=1)
    server = serve(respond(body=bomb, headers=["Content-Encoding: gzip"]))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        get(fetcher, server, max_bytes=2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_gzip_is_understood_and_other_encodings_are_not(fetcher, serve):
    body = json.dumps({"a": "b" * 1000}).encode()
    server = serve(respond(body=gzip.compress(body), headers=["Content-Encoding: gzip"]))
    assert get(fetcher, server, max_bytes=len(body)) == {"a": "b" * 1000}
    for encoding, sent in (
        ("br", body),
        ("gzip, gzip", gzip.compress(gzip.compress(body))),
        ("gzip", body),
        ("gzip", gzip.compress(body)[:-9]),
    ):
        server = serve(respond(body=sent, headers=[f"Content-Encoding: {encoding}"]))
        with pytest.raises(FetchFailed) as caught:
            get(fetcher, server)
        # Less of it would be of no use either.
        assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize(
    "body", [b"[" * 90_000, b"[" * 100 + b"]" * 100, b"", b"<html>", b"\xff", b"{}{}", b"NaN"]
)
def test_a_body_that_is_no_decent_json_is_a_failure(fetcher, serve, body):
    server = serve(respond(body=body))
    with pytest.raises(FetchFailed, match="not usable JSON"):
        get(fetcher, server)


@pytest.mark.parametrize(
    "handle",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000),
        lambda connection: connection.sendall(b"HTTP/1.1 xyz OK\r\n\r\n"),
        lambda connection: (
            read_request(connection),
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"),
        ),
        lambda connection: (
            read_request(connection),
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ),
        lambda connection: (
            read_request(connection),
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ),
    ],
)
def test_broken_http_is_a_failure_in_our_own_words(fetcher, serve, handle):
    server = serve(handle)
    url = f"http://127.0.0.1:{server.port}/x"
    with pytest.raises(FetchFailed) as caught:
        fetcher.get_json(url, {"secret": "token"}, deadline_s=3, max_bytes=1000)
    assert str(caught.value).startswith(f"127.0.0.1:{server.port}: ")
    assert len(str(caught.value)) < 80
    assert "secret" not in str(caught.value)
