"""read_stream against real servers: whatever a connection does, it ends in StreamBroken."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest
from websockets.sync.server import serve

from server.core.errors import StreamBroken
from server.ingest import connection, frames, websocket
from server.ingest.frames import copies
from server.ingest.websocket import read_stream

PATIENCE_S = 5.0


class Reader:
    """Keeps what it is told. `enough`: how many messages it wants."""

    def __init__(self, enough=None):
        self.enough = enough
        self.told = []
        self.opened_at = None
        self.ticks = 0
        self.until = time.monotonic() + PATIENCE_S

    def opened(self, line):
        self.opened_at = time.monotonic()

    def arrived(self):
        pass

    def messages(self, memory, spans, *, is_text):
        for data in copies(memory, spans, is_text=is_text):
            self.message(data)
            yield

    def message(self, data):
        self.told.append(data)

    def tick(self):
        self.ticks += 1
        assert time.monotonic() < self.until, "the connection should have ended"
        return self.enough is None or len(self.told) < self.enough


@contextmanager
def serving(talk, **options) -> Iterator[str]:
    """A websocket server on loopback that does `talk` with each connection; its address."""
    with serve(talk, "127.0.0.1", 0, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, name="server")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/path"
        finally:
            server.shutdown()
            thread.join()


def broken(url, reader=None):
    """Why the stream ended."""
    reader = reader or Reader()
    with pytest.raises(StreamBroken) as caught:
        read_stream(url, "Gapless/test", reader)
    return str(caught.value)


def wait_closed(connection):
    """Until the client has gone."""
    for _ in connection:
        pass


def test_messages_come_whole_and_in_order():
    def talk(connection):
        for number in range(500):
            connection.send(b"%d" % number)
        wait_closed(connection)

    reader = Reader(enough=500)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"%d" % number for number in range(500)]
    assert reader.opened_at is not None


def test_the_server_learns_who_reads():
    seen = []

    def talk(connection):
        seen.append(connection.request.headers["User-Agent"])
        connection.send(b"x")
        wait_closed(connection)

    with serving(talk, server_header=None) as url:
        read_stream(url, "Gapless/1 (test)", Reader(enough=1))
    assert seen == ["Gapless/1 (test)"]


def test_fragments_are_joined_and_text_stays_text():
    def talk(connection):
        connection.send([b"one ", b"message ", b"in parts"])
        connection.send(["text ", "ä"])
        connection.send("short")
        connection.send(b"")
        wait_closed(connection)

    reader = Reader(enough=4)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"one message in parts", "text ä", "short", b""]


def test_what_the_reader_says_arrives_and_it_is_told_so():
    heard = []

    def talk(connection):
        heard.extend(connection)

    class Speaker(Reader):
        def opened(self, line):
            line.say("first", lambda: self.told.append("first was read"))
            line.say("ä" * 200_000, lambda: self.told.append("second was read"))

    reader = Speaker(enough=2)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert heard == ["first", "ä" * 200_000]
    assert reader.told == ["first was read", "second was read"]


@pytest.mark.parametrize(
    ("code", "reason", "told"), [(1000, "", "OK"), (1008, "slow", "slow"), (4001, "x", "4001 x")]
)
def test_a_goodbye_is_told_with_its_reason(code, reason, told):
    with serving(lambda connection: connection.close(code, reason)) as url:
        message = broken(url)
    assert message.startswith("closed by the server: ")
    assert told in message


def test_a_cut_line_is_told():
    def talk(connection):
        connection.send(b"x")
        connection.socket.shutdown(socket.SHUT_RDWR)

    reader = Reader()
    with serving(talk) as url:
        assert broken(url, reader) == "the connection was cut"
    assert reader.told == [b"x"]


@pytest.mark.parametrize("parts", [1, 4])
def test_a_message_that_is_too_large_ends_the_stream(monkeypatch, parts):
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 100_000)

    def talk(connection):
        piece = b"x" * (400_000 // parts)
        connection.send([piece] * parts if parts > 1 else piece)
        wait_closed(connection)

    reader = Reader()
    with serving(talk) as url:
        message = broken(url, reader)
    assert reader.told == []
    assert message == "a message of more than 100000 bytes"


def test_a_message_of_the_largest_size_that_is_legal_arrives():
    def talk(connection):
        connection.send(b"x" * 5_000_000)
        wait_closed(connection)

    reader = Reader(enough=1)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert len(reader.told[0]) == 5_000_000


def test_silence_ends_the_stream(monkeypatch):
    monkeypatch.setattr(websocket, "SILENCE_SECONDS", 0.2)
    reader = Reader()
    with serving(wait_closed) as url:
        assert broken(url, reader).startswith("nothing was said for")
    assert reader.ticks > 1


def test_a_server_that_answers_no_ping_is_given_up(monkeypatch):
    monkeypatch.setattr(websocket, "PING_IDLE_SECONDS", 0.1)
    monkeypatch.setattr(websocket, "PING_REPLY_SECONDS", 0.1)
    stop = threading.Event()

    def freeze(connection):
        # Nobody reads the socket any more, so nobody answers.
        connection.protocol.receive_data = lambda data: stop.wait(PATIENCE_S)
        stop.wait(PATIENCE_S)

    with serving(freeze) as url:
        try:
            assert broken(url)
        finally:
            stop.set()


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
def test_a_refused_handshake_is_told_with_its_status(status):
    def refuse(connection, request):
        return connection.respond(status, "not now")

    with serving(wait_closed, process_request=refuse) as url:
        message = broken(url)
    assert message.startswith("cannot connect: ")
    assert str(int(status)) in message


def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        message = broken(f"ws://127.0.0.1:{deaf.getsockname()[1]}/")
    assert message.startswith("cannot connect: ")


def test_nobody_at_the_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert broken(f"ws://127.0.0.1:{port}/").startswith("cannot connect: ")


def test_a_server_that_talks_nonsense_is_told():
    def answer(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        assert broken(f"ws://127.0.0.1:{listener.getsockname()[1]}/").startswith("cannot connect")
        thread.join()


class Failing(Reader):
    """Raises in one of its methods."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def opened(self, line):
        self._fail("opened")

    def message(self, data):
        super().message(data)
        self._fail("message")

    def tick(self):
        self._fail("tick")
        return super().tick()

    def _fail(self, where):
        if where == self.where:
            raise LookupError(where)


@pytest.mark.parametrize("where", ["opened", "message", "tick"])
def test_what_the_reader_raises_comes_out(where):
    def talk(connection):
        connection.send(b"one")
        connection.send(b"two")
        wait_closed(connection)

    reader = Failing(where)
    with serving(talk) as url, pytest.raises(LookupError, match=where):
        read_stream(url, "Gapless/test", reader)
    # What is in the buffer already is not handed over any more.
    assert where != "message" or reader.told == [b"one"]
