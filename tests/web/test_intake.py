"""Where a request ends, however it comes: compared with requests whose end is known."""

import socket

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from server.gunicorn_intake import (
    MAX_BODY_BYTES,
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    Intake,
    Room,
    Verdict,
)
from tests.fuzzing import fuzz

CONFIG = Config()
HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"
names = st.sampled_from([b"Accept", b"X-Content-Length", b"User-Agent", b"Expectations"])
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(
    lambda text: text.strip().encode()
)
others = st.lists(st.tuples(names, values).map(b": ".join), max_size=4)


def spelled(name):
    return st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda ups: bytes(
            byte - 32 if up and 97 <= byte <= 122 else byte
            for byte, up in zip(name, ups, strict=True)
        )
    )


@st.composite
def requests(draw):
    """A whole request: without a body, with one of a length, or in chunks."""
    fields, body = draw(others), b""
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    if kind == "length":
        body = draw(st.binary(max_size=200))
        mark = draw(spelled(b"content-length")) + draw(st.sampled_from([b":", b": ", b":\t "]))
        zeros = draw(st.sampled_from([b"", b"0" * 30]))
        fields.insert(draw(st.integers(0, len(fields))), mark + zeros + str(len(body)).encode())
    if kind == "chunks":
        before = draw(st.sampled_from([b": ", b": identity, ", b":gzip,\t"]))
        fields.append(draw(spelled(b"transfer-encoding")) + before + draw(spelled(b"chunked")))
        # Of what an end is made of.
        pieces = draw(st.lists(st.text("abc0\r\n", min_size=1, max_size=20), max_size=4))
        body = b"".join(f"{len(piece):x}\r\n{piece}\r\n".encode() for piece in pieces)
        body += b"0\r\n\r\n"
    empty = draw(st.sampled_from([b"", b"\r\n", b"\r\n\r\n\n"]))
    return empty + HEAD + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


@pytest.fixture(scope="module")
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@fuzz(100)
@given(request=requests(), data=st.data())
def test_a_request_is_whole_with_its_last_byte_and_not_before(request, data):
    cuts = data.draw(st.lists(st.integers(0, len(request)), max_size=6).map(sorted))
    # A connection for each example: what one that fails leaves unread is not the next one's.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hear_in_pieces(ours, theirs, request, cuts)


def hear_in_pieces(ours, theirs, request, cuts):
    room = Room()
    intake = Intake(room)
    for begin, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
        theirs.sendall(request[begin:end])
        verdict = intake.hear(ours)
        assert verdict is (Verdict.ENOUGH if end == len(request) else Verdict.MORE)
        if verdict is Verdict.ENOUGH:
            break
    assert intake.take() == request.lstrip(b"\r\n")
    assert intake.judge() is Verdict.MORE
    assert room._held == 0
    # A cut at the very end leaves nothing to read; then nobody speaks.
    assert intake.hear(ours) is Verdict.MORE


class Waits(Exception):
    """gunicorn wants to read more than there is."""


def gunicorn_reads(said):
    """Whether gunicorn reads a whole request; raises Waits, or says why it refuses to."""

    def source():
        yield said
        raise Waits

    request = next(RequestParser(CONFIG, source(), ("127.0.0.1", 1)))
    request.body.read()


lines = st.sampled_from(
    b"""\
Content-Length: 3
content-length:\t03\x20
Content-Length: 00000000000000000003
Content-Length: 3,3
Content-Length: -3
Content-Length:\x20
Content-Length : 3
Transfer-Encoding: chunked
Transfer-Encoding: identity, chunked
Transfer-Encoding:gzip ,\tchunked\x20
transfer-encoding: CHUNKED, chunked
Transfer-Encoding: chunked, gzip
Transfer-Encoding: gzip
Transfer-Encoding:
X-Transfer-Encoding: chunked
 folded: chunked
Host: y""".split(b"\n")
)
tokens = st.sampled_from(
    [
        *(b"\r\n", b"\r", b"\n", b"0\r\n", b"00\r\n", b"0;a=b\r\n", b"0 \r\n", b"X: y\r\n"),
        *(b"3\r\nabc\r\n", b"0A ;a\r\n0123\r\n\r\n89\r\n", b"5\r\n\r\n0\r\n", b"ff\r\n", b"-1\r\n"),
        *(b"3\r\nabcd\r\n", b"g\r\n", b";\r\n", b"xyz", b"GET / HTTP/1.1\r\n"),
    ]
)
glued = st.tuples(
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]),
    st.lists(lines, max_size=3).map(lambda found: b"".join(line + b"\r\n" for line in found)),
    st.lists(tokens, max_size=6).map(b"".join),
)


@fuzz(300)
@given(parts=glued)
def test_a_request_is_whole_where_gunicorn_need_not_wait(parts):
    version, fields, body = parts
    said = b"POST /x " + version + b"\r\nHost: x\r\n" + fields + b"\r\n" + body
    intake = Intake(Room())
    intake.put_back(said)
    verdict = intake.judge()
    try:
        gunicorn_reads(said)
    except Waits:
        assert verdict is Verdict.MORE
    except ParseException:
        # Refused: early, or when it is all there.
        assert verdict in (Verdict.MORE, Verdict.ENOUGH)
    else:
        assert verdict is Verdict.ENOUGH


@fuzz(100)
@given(said=st.binary(max_size=300))
def test_whatever_is_said_there_is_a_verdict(said):
    intake = Intake(Room())
    intake.put_back(said)
    assert intake.judge() in (Verdict.MORE, Verdict.ENOUGH)
    assert intake.judge() is intake.judge()


@pytest.mark.parametrize(
    "body",
    [b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\nX: y\r\n\r\n"],
)
@pytest.mark.parametrize("behind", [b"", b"GET / HT"])
def test_a_body_in_chunks_ends_with_the_last_whatever_is_behind_it(body, behind):
    if b"X: y" in body and behind:
        # Trailers, and half a request behind them: read when that is whole.
        behind += b"TP/1.1\r\n\r\n"
    intake = Intake(Room())
    intake.put_back(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + behind)
    assert intake.judge() is Verdict.ENOUGH


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5, 5\r\n",
        b" Content-Length: 5\r\n",
    ],
)
def test_a_head_that_will_be_refused_is_not_waited_for(head):
    intake = Intake(Room())
    intake.put_back(HEAD + head + b"\r\n")
    assert intake.judge() is Verdict.ENOUGH


@pytest.mark.attack("sockets")
@pytest.mark.parametrize(
    "half",
    [
        b"Transfer-Encoding: identity, chunked\r\n\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nff\r\n\r\n0\r\n\r\n",
        b"Content-Length: " + b"0" * 20 + b"9\r\n\r\nhalf",
    ],
)
def test_a_half_request_that_looks_whole_is_waited_for(half):
    intake = Intake(Room())
    intake.put_back(HEAD + half)
    assert intake.judge() is Verdict.MORE


def said_at_length(ends, said):
    """The verdict as soon as there is one."""
    ours, theirs = ends
    intake = Intake(Room())
    for begin in range(0, len(said), 8192):
        theirs.sendall(said[begin : begin + 8192])
        verdict = intake.hear(ours)
        if verdict is not Verdict.MORE:
            return verdict
    return Verdict.MORE


@pytest.mark.attack("sockets")
def test_what_is_too_long_is_refused_before_it_is_held(ends):
    declared = HEAD + f"Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode()
    assert said_at_length(ends, declared) is Verdict.LONG_BODY
    endless = HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"
    assert said_at_length(ends, endless) is Verdict.LONG_BODY
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"800\r\n" + b"x" * 0x800 + b"\r\n"
    assert said_at_length(ends, chunked + chunk * (MAX_BODY_BYTES // 0x800)) is Verdict.LONG_BODY
    assert said_at_length(ends, chunked + b"40001\r\n") is Verdict.LONG_BODY
    assert said_at_length(ends, chunked + b"1;" + b"x" * MAX_BODY_BYTES) is Verdict.LONG_BODY
    assert said_at_length(ends, HEAD + b"X: " + b"x" * MAX_HEAD_BYTES) is Verdict.LONG_HEAD
    whole = HEAD + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"
    assert said_at_length(ends, whole) is Verdict.LONG_HEAD


@pytest.mark.attack("sockets")
@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_body_in_very_many_chunks_is_refused(is_at_once):
    for count, wanted in ((MAX_CHUNKS, Verdict.ENOUGH), (MAX_CHUNKS + 1, Verdict.LONG_BODY)):
        said = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
        intake = Intake(Room())
        for piece in [said] if is_at_once else (said[at : at + 1] for at in range(len(said))):
            intake.put_back(piece)
            verdict = intake.judge()
            if verdict is not Verdict.MORE:
                break
        assert verdict is wanted


def test_what_all_connections_hold_is_bounded_and_given_back(ends):
    ours, theirs = ends
    room = Room(100)
    first, second = Intake(room), Intake(room)
    for intake, wanted in ((first, Verdict.MORE), (second, Verdict.NO_ROOM)):
        theirs.sendall(HEAD + b"X: " + b"x" * 40)
        assert intake.hear(ours) is wanted
    first.clear()
    second.clear()
    theirs.sendall(HEAD + b"X: " + b"x" * 40)
    assert second.hear(ours) is Verdict.MORE


def test_who_waits_for_a_word_gets_it_once(ends):
    ours, theirs = ends
    intake = Intake(Room())
    theirs.sendall(HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert intake.hear(ours) is Verdict.MORE
    assert theirs.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    theirs.sendall(b"ab")
    assert intake.hear(ours) is Verdict.MORE
    theirs.sendall(b"c")
    assert intake.hear(ours) is Verdict.ENOUGH
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    theirs.setblocking(True)


def test_who_is_gone_is_gone_and_who_ends_early_is_read():
    for said, wanted in ((b"", Verdict.GONE), (b"GET / HT", Verdict.ENOUGH)):
        ours, theirs = socket.socketpair()
        with ours:
            intake = Intake(Room())
            with theirs:
                theirs.sendall(said)
                assert intake.hear(ours) is Verdict.MORE
            assert intake.hear(ours) is wanted
