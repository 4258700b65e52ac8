"""read_stream takes in what was read by turns: in order, and all else goes on meanwhile."""

import asyncio
import socket
import struct
import threading
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from server.ingest import turns, websocket
from server.ingest.frames import BINARY, PING, TEXT
from server.ingest.websocket import open_stream, read_stream
from tests.ingest.test_frames import CONTINUATION, from_server
from tests.ingest.test_websocket import PATIENCE_S, Reader, broken, serving, wait_closed

# How long it takes to take in one message here, and how many there are: minutes.
STEP_SECONDS, MANY = 0.02, 10_000
# On a machine that has much else to do as well.
SOON_SECONDS = 2.0


def number_of(message):
    return int(message[:5])


class Slow(Reader):
    """Takes its time for each message. `stop_at`: after how many it is asked to stop."""

    def __init__(self, enough=None, stop_at=None, step_s=STEP_SECONDS):
        super().__init__(enough)
        self.step_s = step_s
        self.stop_at = stop_at
        self.asked_s = None

    def message(self, data):
        time.sleep(self.step_s)
        super().message(data)
        if len(self.told) == self.stop_at:
            self.asked_s = time.monotonic()

    def tick(self):
        return super().tick() and self.asked_s is None

    @property
    def numbers(self):
        return [number_of(message) for message in self.told]


@pytest.fixture
def a_turn_each(monkeypatch):
    """Each step is a turn, and the reader ticks all the time."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(websocket, "TICK_SECONDS", 0.001)


def numbered(count, size=5):
    return [b"%05d" % number + bytes(size - 5) for number in range(count)]


def alone(messages):
    return b"".join(from_server(BINARY, message) for message in messages)


def with_pings(messages):
    return b"".join(from_server(BINARY, one) + from_server(PING, one[:5]) for one in messages)


def in_both_kinds(messages):
    return b"".join(
        from_server(TEXT if number % 2 else BINARY, message)
        for number, message in enumerate(messages)
    )


def in_pieces(messages):
    return b"".join(
        from_server(BINARY, one[:2], final=False) + from_server(CONTINUATION, one[2:])
        for one in messages
    )


def sending(wire):
    """A server that sends this at once, and waits."""

    def talk(connection):
        with suppress(OSError):
            connection.socket.sendall(wire)
        wait_closed(connection)

    return serving(talk)


@pytest.mark.parametrize("forms", [alone, with_pings, in_both_kinds, in_pieces])
def test_a_stop_is_heard_in_the_midst_of_what_was_read(forms):
    reader = Slow(stop_at=10)
    with sending(forms(numbered(MANY))) as url:
        read_stream(url, "Gapless/test", reader)
    assert time.monotonic() - reader.asked_s < SOON_SECONDS
    assert reader.numbers == list(range(len(reader.told)))
    assert 10 <= len(reader.told) < 10 + SOON_SECONDS / STEP_SECONDS


def test_after_a_stop_nothing_more_is_taken_in():
    reader = Slow(stop_at=10)

    async def read(url):
        await open_stream(url, "Gapless/test", reader)
        told = len(reader.told)
        await asyncio.sleep(0.2)
        assert len(reader.told) == told

    with sending(alone(numbered(MANY))) as url:
        asyncio.run(read(url))


def test_other_work_goes_on_meanwhile():
    """Another source is read, and what has its time comes in time."""
    slow, other = Slow(stop_at=50), Slow(step_s=0)
    rounds = []

    def talk(connection):
        while slow.asked_s is None:
            connection.send(b"x")
            time.sleep(0.02)
        wait_closed(connection)

    async def count():
        while True:
            rounds.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def read(url, other_url):
        beside = [asyncio.ensure_future(open_stream(other_url, "Gapless/test", other))]
        beside.append(asyncio.ensure_future(count()))
        await open_stream(url, "Gapless/test", slow)
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)

    with sending(alone(numbered(MANY))) as url, serving(talk) as other_url:
        asyncio.run(read(url, other_url))
    assert len(other.told) > 5
    pauses = [later - earlier for earlier, later in pairwise(rounds)]
    assert max(pauses) < SOON_SECONDS / 2


def test_pings_are_answered_in_the_midst_of_what_was_read():
    pongs = []

    def talk(connection):
        receive = connection.protocol.receive_data

        def note(data):
            pongs.append((time.monotonic(), data))
            receive(data)

        connection.protocol.receive_data = note
        with suppress(OSError):
            connection.socket.sendall(with_pings(numbered(MANY)))
        wait_closed(connection)

    reader = Slow(stop_at=30)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    times = [at for at, _ in pongs if at < reader.asked_s]
    # Each turn brings one, for the last of its pings.
    assert 2 <= len(times) <= 30
    assert times[0] < reader.asked_s - 0.2


def test_many_turns_change_nothing(a_turn_each):
    """However often the reader looks around: nothing is put where something waits."""
    messages = numbered(4000, 1000)

    def talk(connection):
        for message in messages:
            connection.send(message)
        wait_closed(connection)

    reader = Slow(enough=len(messages), step_s=0)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert reader.told == messages


def test_of_each_read_it_is_said_that_it_begins(a_turn_each):
    """However many turns it takes: what the reader does once a read is not done once a turn."""
    is_open, is_read = threading.Event(), threading.Event()

    def talk(connection):
        assert is_open.wait(PATIENCE_S)
        connection.socket.sendall(with_pings(numbered(20)))
        assert is_read.wait(PATIENCE_S)
        connection.socket.sendall(with_pings(numbered(20)))
        wait_closed(connection)

    class Noting(Slow):
        def opened(self, line):
            is_open.set()

        def arrived(self):
            self.told.append(b"99999")

        def message(self, data):
            super().message(data)
            if data == b"00019":
                is_read.set()

    reader = Noting(enough=43, step_s=0)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    # The first one had the answer to the handshake, and nothing more.
    assert reader.numbers == [99999, 99999, *range(20), 99999, *range(20)]


def test_while_something_waits_nothing_is_read(a_turn_each):
    """The sender is held back, by what one read holds and what the kernel does."""
    sent, size = [], 100_000

    def talk(connection):
        for message in numbered(1000, size):
            connection.send(message)
            sent.append(len(message))

    reader = Slow(stop_at=20, step_s=0.05)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
        held_back = sum(sent)
    assert reader.numbers[:20] == list(range(20))
    assert held_back < 30_000_000


def test_a_goodbye_comes_after_all_that_came_before_it(a_turn_each):
    def talk(connection):
        connection.socket.sendall(alone(numbered(100)))
        connection.close(1001, "bye")

    reader = Slow(step_s=0.002)
    with serving(talk) as url:
        assert broken(url, reader) == "closed by the server: 1001 GOING_AWAY bye"
    assert reader.numbers == list(range(100))


def test_a_connection_that_is_lost_meanwhile_ends_after_all_that_was_read(a_turn_each, caplog):
    """Nothing is read meanwhile; that it is lost is found out by a pong that cannot be sent."""
    is_told = threading.Event()

    def talk(connection):
        connection.socket.sendall(with_pings(numbered(100)))
        assert is_told.wait(PATIENCE_S)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()

    class Telling(Slow):
        def message(self, data):
            super().message(data)
            is_told.set()

    reader = Telling(step_s=0.01)
    with serving(talk) as url:
        assert broken(url, reader).startswith("the connection was cut: ")
    assert reader.numbers == list(range(100))
    # Nor is a pong sent to where nobody is: asyncio would warn.
    assert [one for one in caplog.records if one.name == "asyncio"] == []


def test_what_the_reader_raises_in_a_later_turn_comes_out(a_turn_each):
    class Failing(Slow):
        def message(self, data):
            super().message(data)
            if len(self.told) == 30:
                raise LookupError("the thirtieth")

    reader = Failing(step_s=0)
    with (
        sending(alone(numbered(100))) as url,
        pytest.raises(LookupError, match="the thirtieth"),
    ):
        read_stream(url, "Gapless/test", reader)
    assert reader.numbers == list(range(30))
