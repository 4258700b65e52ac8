"""Bytes that are no HTTP, or only just: refused, and nobody else notices."""

import json
import os
import socket
import time
from contextlib import ExitStack, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.web.conftest import ON_SQLITE, SKELETON

pytestmark = ON_SQLITE

REFUSALS = (400, 401, 405, 408, 413, 414, 431, 501, 505)
GARBAGE = {
    "nothing": b"",
    "a line break": b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "zeros": b"\0" * 5000,
    "no version": b"GET /\r\n\r\n",
    "odd version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "long line": b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: " + b"x" * 20_000 + b"\r\n\r\n",
    "very long header": b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: " + b"x" * 40_000,
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Y: 1\r\n" * 500 + b"\r\n",
    "bad header": b"GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
    "NUL in header": b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: a\0b\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    ),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "bad chunk": (
        b"POST /xrpc/app.bsky.feed.sendInteractions HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    ),
    "half a request": b"GET / HTTP/1.1\r\nHost: x",
}


@pytest.mark.attack("sockets")
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_only_its_own_connection(site, name):
    answer = site.raw(GARBAGE[name])
    status = answer.split(b"\r\n")[0]
    assert status == b"" or int(status.split()[1]) in REFUSALS
    assert b"Traceback" not in answer
    if status != b"":
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Content-Type: application/json\r\n" in head + b"\r\n"
        assert b"Server:" not in head
        assert b"gunicorn" not in answer
        assert json.loads(body).keys() == {"error", "message"}
    assert site.get("/health").status == 200


def open_half_requests(site, stack, count):
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", site.service.port), timeout=10)
        stack.callback(sock.close)
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")


@pytest.mark.attack("sockets")
def test_requests_that_never_end_leave_room_for_others(site):
    with ExitStack() as stack:
        open_half_requests(site, stack, 200)
        for _ in range(5):
            began = time.monotonic()
            assert site.skeleton("feed=" + site.reader.uri()).status == 200
            assert time.monotonic() - began < 2


def test_requests_that_were_given_up_leave_nothing_behind(site):
    with ExitStack() as stack:
        open_half_requests(site, stack, 50)
    began = time.monotonic()
    assert site.skeleton("feed=" + site.reader.uri()).status == 200
    assert time.monotonic() - began < 5


@pytest.mark.attack("sockets")
def test_clients_that_do_not_hang_up_hold_nobody(site):
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(10):
            sock = socket.create_connection(("127.0.0.1", site.service.port), timeout=10)
            stack.callback(sock.close)
            sock.sendall(request)
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert site.get("/health").status == 200
        assert time.monotonic() - began < 1


@pytest.mark.attack("sockets")
def test_a_client_that_drips_its_request_is_hung_up_on(site):
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=10) as sock:
        began = time.monotonic()
        sock.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(ConnectionError):
            while time.monotonic() - began < 15:
                sock.sendall(b"X: 1\r\n")
                time.sleep(0.2)
        assert 4 < time.monotonic() - began < 12


@pytest.mark.attack("sockets")
@pytest.mark.slow
def test_a_client_that_does_not_listen_is_hung_up_on(site):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(40)
        sock.connect(("127.0.0.1", site.service.port))
        # Not a timeout, which would be raised.
        with suppress(ConnectionError):
            while True:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    assert site.get("/health").status == 200


def test_a_connection_serves_many_requests(site):
    token = site.token()
    request = (
        f"GET {SKELETON}?feed=x HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode()
    )
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=10) as sock:
        for _ in range(20):
            sock.sendall(request)
            received = b""
            while b'"UnknownFeed"' not in received:
                piece = sock.recv(65_536)
                assert piece, received
                received += piece
            while not received.endswith(b"}\n"):
                received += sock.recv(65_536)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/health", "/static/gapless.css", "/nowhere"])
def test_an_answer_has_a_head_a_date_and_all_of_its_body(site, method, path):
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    head, _, body = site.raw(request).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status == ("HTTP/1.1 404 NOT FOUND" if path == "/nowhere" else "HTTP/1.1 200 OK")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    said = parsedate_to_datetime(headers["Date"]).timestamp()
    assert abs(time.time() - said) < 5
    assert headers["Connection"] == "close"
    assert len(body) == (0 if method == "HEAD" else int(headers["Content-Length"]))


def test_a_short_answer_comes_in_one_piece(site):
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=10) as sock:
        for _ in range(20):
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = sock.recv(65_536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.attack("sockets")
def test_a_body_larger_than_allowed_is_not_waited_for(site):
    began = time.monotonic()
    answer = site.raw(
        b"POST /xrpc/app.bsky.feed.sendInteractions HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 100000000000\r\nAuthorization: " + site.token().encode() + b"\r\n\r\n{"
    )
    assert time.monotonic() - began < 5
    assert answer.split(b" ")[1] in (b"401", b"413")


@pytest.mark.attack("sockets")
@pytest.mark.parametrize(
    "header",
    [
        "PATH_INFO: /status",
        "SCRIPT_NAME: /health",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off",
        "X-Forwarded-For: 1.2.3.4",
    ],
)
def test_nobody_is_believed_what_only_a_proxy_could_say(site, header):
    """Not from this machine either, where gunicorn would take it for a proxy's word."""
    said = f"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n\r\n"
    head, _, body = site.raw(said.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body) == site.get("/health").json()


def test_there_is_no_other_door(site):
    """gunicorn has a socket in the home directory, by which it can be told to stop."""
    members = {member.pid for member in site.service.members("gunicorn")}
    ours = set()
    for link in [link for pid in members for link in Path(f"/proc/{pid}/fd").iterdir()]:
        with suppress(FileNotFoundError):
            ours.add(os.readlink(link))
    doors = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [door for door in doors if len(door) > 7 and f"socket:[{door[6]}]" in ours] == []


def test_after_all_this_the_same_processes_serve(site):
    assert len(site.service.members("gunicorn")) == 2
    assert site.skeleton("feed=" + site.reader.uri()).status == 200
    assert "Worker" not in site.service.log_path.read_text()
