"""How a websocket is opened: what we ask, what we take for an answer, and where we are sent."""

import re
import socket
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress
from hashlib import sha1
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ingest import connection, handshake
from server.ingest.connection import MAX_REDIRECTS
from server.ingest.handshake import MAX_BODY_BYTES, HandshakeRefused, check, request
from server.ingest.websocket import read_stream
from tests.ingest.test_websocket import Reader, broken

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
# The example of RFC 6455, section 1.3.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Accept": ACCEPT,
}


def head(line="HTTP/1.1 101 Switching Protocols", **changes):
    fields = {**GOOD, **{name.replace("_", "-"): text for name, text in changes.items()}}
    lines = [line, *(f"{name}: {text}" for name, text in fields.items() if text is not None)]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("ws://relay.example", "relay.example", "/"),
        ("ws://relay.example:80/xrpc/x?cursor=5", "relay.example", "/xrpc/x?cursor=5"),
        ("wss://relay.example:8443/a", "relay.example:8443", "/a"),
        ("ws://[::1]:3000/a", "[::1]:3000", "/a"),
    ],
)
def test_what_is_asked(url, host, path):
    lines = request(urlsplit(url), KEY, "Gapless/test").decode().split("\r\n")
    assert lines[0] == f"GET {path} HTTP/1.1"
    fields = dict(line.split(": ") for line in lines[1:-2])
    assert lines[-2:] == ["", ""]
    assert fields == {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY.decode(),
        "User-Agent": "Gapless/test",
    }


def test_a_right_answer_is_taken():
    check(head(), KEY)
    check(head(Upgrade="WebSocket", Connection="upgrade", Date="today"), KEY)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.9", "not HTTP"),
        (b"", "not HTTP"),
        (head("HTTP/2 101"), "not HTTP"),
        (head(Sec_WebSocket_Accept=None), "not to our key"),
        (head(Sec_WebSocket_Accept=ACCEPT.lower()), "not to our key"),
        (head(Upgrade="h2c"), "another protocol"),
        (head(Connection="close"), "did not say"),
        (head(Sec_WebSocket_Extensions="permessage-deflate"), "did not ask for"),
        (head(Sec_WebSocket_Protocol="chat"), "did not ask for"),
    ],
)
def test_a_wrong_answer_is_refused(answer, reason):
    with pytest.raises(HandshakeRefused, match=reason) as caught:
        check(answer, KEY)
    assert caught.value.status is None


def test_a_refusal_has_its_status_and_its_wish():
    with pytest.raises(HandshakeRefused) as caught:
        check(b"HTTP/1.1 429 Slow down\r\nretry-AFTER:  7 ", KEY)
    assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "7"})


TOO_OLD = b'{"error":"CursorTooOld","message":"5 is below 7"}'


def refused(fields="", body=TOO_OLD, status="400 Bad Request"):
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


def chunk(data):
    return b"%x;x=y\r\n%b\r\n" % (len(data), data) if data else b"0\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked\r\n"
LENGTH = f"Content-Length: {len(TOO_OLD)}\r\n"


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        refused(LENGTH),
        refused(LENGTH, status="503 Away"),
        refused(CHUNKED, chunk(TOO_OLD[:8]) + chunk(TOO_OLD[8:]) + chunk(b"")),
    ],
)
def test_what_a_refusal_says_is_known_as_soon_as_it_is_here(answer, in_pieces):
    """The server keeps the connection."""
    with answering(answer, in_pieces=in_pieces) as (url, _):
        assert broken(url).endswith(": CursorTooOld: 5 is below 7")


@pytest.mark.parametrize(
    "fields", ["", CHUNKED, "Content-Length: 9999\r\n", "Content-Length: x\r\n"]
)
def test_a_refusal_without_an_end_counts_when_the_time_is_over(monkeypatch, fields):
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.1)
    body = chunk(TOO_OLD) if fields == CHUNKED else TOO_OLD
    with answering(refused(fields, body)) as (url, _):
        assert broken(url).endswith(": CursorTooOld: 5 is below 7")


def test_a_refusal_that_is_cut_off_counts():
    with answering(refused("Content-Length: 9999\r\n", TOO_OLD), hangs_up=True) as (url, _):
        assert broken(url).endswith(": CursorTooOld: 5 is below 7")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b'["error"]',
        b'{"error":5}',
        b'{"error":"CursorTooOld","message":"' + b"x" * MAX_BODY_BYTES + b'"}',
    ],
)
def test_a_body_that_is_no_error_of_xrpc_is_passed_over(body):
    with answering(refused(f"Content-Length: {len(body)}\r\n", body)) as (url, _):
        assert broken(url) == "cannot connect: HandshakeRefused: status 400"


def test_a_body_that_goes_on_for_ever_is_not_waited_for():
    with answering(refused("", b" " * (MAX_BODY_BYTES + 1))) as (url, _):
        assert broken(url) == "cannot connect: HandshakeRefused: status 400"


@given(body=st.binary() | st.binary().map(lambda rest: b"3\r\n" + rest))
def test_no_body_makes_us_raise(body):
    for headers in ({}, {"transfer-encoding": "chunked"}, {"content-length": "9"}):
        one = HandshakeRefused("status 400", 400, headers)
        one.is_whole(body)
        assert one.with_body(body).status == 400


@contextmanager
def answering(*answers, in_pieces=False, hangs_up=False):
    """A server that answers one connection after the other, with bytes made of the request."""
    requests = []

    def say(connection, answer):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (answer[at : at + 1] for at in range(len(answer))) if in_pieces else (answer,):
            connection.sendall(piece)
        while not hangs_up and connection.recv(4096):
            pass

    def run(listener):
        for answer in answers:
            connection, _ = listener.accept()
            # Whoever has heard enough leaves.
            with connection, suppress(ConnectionError):
                requests.append(connection.recv(4096).decode())
                say(connection, answer(requests[-1]) if callable(answer) else answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/first", requests
        thread.join(10)


def switching(after=b""):
    """The right answer, and what comes with it."""

    def answer(asked):
        key = re.search(r"Sec-WebSocket-Key: (\S+)", asked)[1].encode()
        digest = sha1(key + handshake._GUID, usedforsecurity=False).digest()
        accept = b64encode(digest).decode()
        return head(Sec_WebSocket_Accept=accept) + b"\r\n\r\n" + after

    return answer


def moved(place, status=302):
    return f"HTTP/1.1 {status} Moved\r\nLocation: {place}\r\n\r\n".encode()


def test_messages_that_come_with_the_answer_are_not_lost():
    reader = Reader(enough=2)
    with answering(switching(b"\x82\x03one\x82\x03two")) as (url, _):
        read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"one", b"two"]


def test_a_redirect_is_followed():
    reader = Reader(enough=1)
    with answering(moved("/second?x=1"), switching(b"\x82\x01x")) as (url, requests):
        read_stream(url, "Gapless/test", reader)
    assert [asked.split()[1] for asked in requests] == ["/first", "/second?x=1"]


def test_redirects_come_to_an_end():
    answers = [moved("/again", 307)] * (MAX_REDIRECTS + 1)
    with answering(*answers) as (url, requests):
        assert "status 307" in broken(url)
    assert len(requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("place", ["gopher://x/", "http://", "ws://[bad/"])
def test_a_redirect_to_nowhere_is_the_end(place):
    with answering(moved(place)) as (url, _):
        assert broken(url).startswith("cannot connect: ")


def test_a_head_without_an_end_is_the_end():
    with answering(b"HTTP/1.1 101 X\r\n" + b"a: b\r\n" * 5000) as (url, _):
        assert "the head of the answer has no end" in broken(url)


def test_an_answer_that_is_cut_off_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut():
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        message = broken(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(10)
    assert "before there was an answer" in message
