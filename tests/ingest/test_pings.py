"""Pings are answered, however many come and whoever reads the answers, within bounds."""

import threading
import time

from server.ingest import connection, websocket
from server.ingest.connection import MAX_UNREAD_BYTES
from server.ingest.websocket import read_stream
from tests.ingest.test_websocket import PATIENCE_S, Reader, broken, serving, wait_closed
from tests.ingest.test_websocket_turns import Slow, alone, numbered


def test_a_server_that_pings_and_never_reads_is_left(monkeypatch):
    """Its pongs would fill our memory."""

    def talk(connection):
        connection.socket.sendall(b"\x89\x00")
        wait_closed(connection)

    class Deaf(Reader):
        def opened(self, line):
            super().opened(line)
            unread = MAX_UNREAD_BYTES + 1
            monkeypatch.setattr(line._transport, "get_write_buffer_size", lambda: unread)

    with serving(talk) as url:
        message = broken(url, Deaf())
    assert message == f"the server left {MAX_UNREAD_BYTES} bytes of ours unread"


def test_of_pings_that_come_at_once_the_last_is_answered(monkeypatch):
    pongs, count = [], 10_000

    def talk(connection):
        raw = connection.socket
        raw.sendall(b"\x89\x00" * count + b"\x89\x01z" + b"\x82\x01x")
        wait_closed(connection)

    def note(line, kind, payload):
        pongs.append(payload)

    monkeypatch.setattr(connection.Line, "send", note)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", Reader(enough=1))
    assert pongs[-1] == b"z"
    assert len(pongs) < count // 10


def test_pings_are_answered():
    heard = []

    def talk(connection):
        heard.append(connection.ping("a mark").wait(5))
        connection.send(b"x")
        wait_closed(connection)

    with serving(talk) as url:
        read_stream(url, "Gapless/test", Reader(enough=1))
    assert heard == [True]


def test_who_sends_much_is_neither_silent_nor_dead(monkeypatch):
    """It is we who do not listen."""
    for name in ("SILENCE_SECONDS", "PING_IDLE_SECONDS", "PING_REPLY_SECONDS"):
        monkeypatch.setattr(websocket, name, 0.3)
    is_told = threading.Event()

    def talk(connection):
        connection.socket.sendall(alone(numbered(60)))
        assert is_told.wait(PATIENCE_S)
        time.sleep(0.1)
        connection.socket.sendall(alone(numbered(61)[60:]))
        wait_closed(connection)

    class Telling(Slow):
        def message(self, data):
            super().message(data)
            if len(self.told) == 60:
                is_told.set()

    reader = Telling()
    with serving(talk) as url:
        # Afterwards it is silent as ever.
        assert broken(url, reader).startswith(("nothing was said for", "our ping was not"))
    assert reader.numbers == list(range(61))
