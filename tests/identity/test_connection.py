"""One answer of a server, byte by byte, and the connections that are kept."""

import contextlib
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.identity import connection
from server.identity.connection import Answer, EndsEarly, KeptConnections, NotHttp, get

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def ask(*pieces: bytes, max_bytes: int = 1000) -> Answer:
    """What comes of an answer that arrives in these pieces, after which the server hangs up."""
    return ask_pieces(pieces, max_bytes)


def ask_pieces(pieces: Iterable[bytes], max_bytes: int) -> Answer:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs:
            theirs.recv(1000)
            for piece in pieces:
                try:
                    theirs.sendall(piece)
                except OSError:
                    return

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        return get(ours, REQUEST, time.monotonic() + 5, max_bytes)
    finally:
        ours.close()
        thread.join(5)


def test_an_answer_says_status_headers_and_body():
    answer = ask(OK + b"Content-Length: 2\r\nX-A: 1\r\nx-a:  2 \r\n\r\n{}")
    assert answer == Answer(200, {"content-length": "2", "x-a": "2"}, b"{}", True)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"", b"abc"),
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\nTrailer: 1\r\n\r\n"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(b"abc", mtime=0)),
    ],
)
def test_a_body_is_the_same_however_it_arrives(head, body):
    whole = OK + head + b"\r\n" + body
    assert ask(whole).body == b"abc"
    assert ask(*(bytes([byte]) for byte in whole)).body == b"abc"


def test_a_connection_is_only_reused_where_the_next_answer_can_begin():
    length = b"Content-Length: 2\r\n"
    assert ask(OK + length + b"\r\n{}").is_reusable
    assert not ask(OK + length + b"Connection: close\r\n\r\n{}").is_reusable
    assert not ask(b"HTTP/1.0 200 OK\r\n" + length + b"\r\n{}").is_reusable
    assert not ask(OK + b"\r\n{}").is_reusable
    # The rest of a body that we did not want.
    assert not ask(b"HTTP/1.1 302 Found\r\n" + length + b"\r\n{}").is_reusable
    assert not ask(OK + b"Content-Length: 5\r\n\r\n12345", max_bytes=4).is_reusable


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize("behind", [OK + b"Content-Length: 1\r\n\r\n2", b"nonsense", b"\x00"])
def test_an_answer_that_nobody_asked_for_is_nobodys(behind):
    answer = ask(OK + b"Content-Length: 1\r\n\r\n1" + behind)
    assert (answer.body, answer.is_reusable) == (b"1", False)


def test_interim_answers_are_passed_over():
    answer = ask(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        OK + b"Content-Length: 2\r\n\r\n{}",
    )
    assert answer == Answer(200, {"content-length": "2"}, b"{}", True)


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n123",
        OK + b"Content-Length: +2\r\n\r\n{}",
        OK + b"A\x00: b\r\n\r\n{}",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/2.7 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        OK + b"A: b\r\n" * 20_000,
        OK + b"A: " + b"b" * 100_000,
    ],
)
def test_what_is_no_answer_is_refused(sent):
    with pytest.raises(NotHttp):
        ask(sent)


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", ConnectionError),
        (b"HTTP/1.1 2", EndsEarly),
        (OK, EndsEarly),
        (OK + b"Content-Length: 3\r\n\r\nab", EndsEarly),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", EndsEarly),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"abc", mtime=0)[:-1], EndsEarly),
        (b"HTTP/1.1 100 Continue\r\n\r\n", EndsEarly),
    ],
)
def test_an_answer_that_breaks_off_is_told_from_one_that_ends(sent, problem):
    with pytest.raises(problem):
        ask(sent)


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"Trailer: x\r\n" * 5000),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: ", b"x" * 60_000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000 + b"\r\na\r\n"),
        (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"", mtime=0) * 3000),
    ],
)
def test_what_brings_no_body_is_not_read_for_ever(head, piece):
    sent = []

    def endless():
        yield OK + head
        while True:
            sent.append(len(piece))
            yield piece

    with contextlib.suppress(NotHttp):
        assert ask_pieces(endless(), max_bytes=10_000).body is None
    assert sum(sent) < 1_000_000


def test_of_an_error_only_the_beginning_is_wanted():
    head = b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n"
    assert ask(head % 16_384 + b"x" * 16_384, max_bytes=10).body == b"x" * 16_384
    assert ask(head % 16_385 + b"x" * 16_385, max_bytes=100_000).body is None


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([b"", OK, OK + b"\r\n"]))
def test_no_bytes_raise_anything_but_what_is_named(pieces, head):
    try:
        answer = ask(head, *pieces, max_bytes=100)
    except (OSError, EndsEarly, NotHttp):
        return
    assert 200 <= answer.status < 1000
    assert answer.body is None or len(answer.body) <= connection.MAX_ERROR_BYTES


@given(st.binary(max_size=3000), st.integers(0, 3000), st.booleans())
def test_the_cap_holds_to_the_byte(body, max_bytes, is_packed):
    sent = gzip.compress(body) if is_packed else body
    head = b"Content-Encoding: gzip\r\n" if is_packed else b""
    length = b"Content-Length: %d\r\n\r\n" % len(sent)
    answer = ask(OK + head + length + sent, max_bytes=max_bytes)
    assert answer.body == (body if len(body) <= max_bytes else None)


def test_a_bomb_in_many_layers_of_zeros_stays_small():
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    sent = bomb.compress(bytes(20_000_000)) + bomb.flush()
    assert ask(OK + b"Content-Encoding: gzip\r\n\r\n" + sent, max_bytes=1000).body is None


@pytest.fixture
def pair():
    made = []

    def make():
        ours, theirs = socket.socketpair()
        made.extend((ours, theirs))
        return ours

    yield make
    for sock in made:
        sock.close()


def test_the_connection_that_was_used_last_is_used_next(pair):
    kept, first, second = KeptConnections(), pair(), pair()
    assert kept.take("https://a") is None
    kept.keep("https://a", first)
    kept.keep("https://a", second)
    assert kept.take("https://b") is None
    assert kept.take("https://a") is second
    assert kept.take("https://a") is first
    assert kept.take("https://a") is None


def test_connections_that_are_too_many_are_closed(pair, monkeypatch):
    monkeypatch.setattr(connection, "MAX_KEPT", 3)
    kept = KeptConnections()
    socks = [pair() for _ in range(6)]
    for host, sock in zip("aabcab", socks, strict=True):
        kept.keep(f"https://{host}", sock)
    # The oldest of the host that was used least lately.
    assert [sock.fileno() < 0 for sock in socks] == [True, False, True, True, False, False]
    assert kept.take("https://a") is socks[4]
    assert kept.take("https://b") is socks[5]
    assert kept.take("https://a") is socks[1]
    assert [kept.take(f"https://{host}") for host in "abc"] == [None] * 3


def test_connections_that_are_idle_for_long_are_closed(pair, monkeypatch):
    kept = KeptConnections()
    socks = [pair() for _ in range(3)]
    for sock in socks:
        kept.keep("https://a", sock)
    monkeypatch.setattr(connection, "KEPT_SECONDS", 0.0)
    assert kept.take("https://a") is None
    assert all(sock.fileno() < 0 for sock in socks)


def test_nothing_is_kept_at_the_end(pair):
    kept = KeptConnections()
    socks = [pair() for _ in range(3)]
    for number, sock in enumerate(socks):
        kept.keep(f"https://{number}", sock)
    kept.close()
    assert all(sock.fileno() < 0 for sock in socks)
    assert kept.take("https://1") is None
