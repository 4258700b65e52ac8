"""How read_stream takes what comes: at once where there is much, in sips where there is little.

And what holds a fast sender back: a reader that is busy reads nothing, and nothing piles up.
"""

import threading
import time
from itertools import pairwise

import pytest

from server.ingest import websocket
from server.ingest.websocket import read_stream
from tests.ingest.test_websocket import PATIENCE_S, Reader, serving

MEGABYTE = 1 << 20


class TimedReader(Reader):
    """Notes when each message came."""

    def __init__(self, enough):
        super().__init__(enough)
        self.times = []

    def message(self, data):
        super().message(data)
        self.times.append(time.monotonic())


def test_a_stream_of_few_messages_is_read_in_sips(monkeypatch):
    """Each waking up costs as much as reading a dozen messages."""
    monkeypatch.setattr(websocket, "TICK_SECONDS", 0.1)

    def talk(socket):
        for number in range(100):
            socket.send(number.to_bytes(4))
            time.sleep(0.005)
        socket.recv()

    reader = TimedReader(enough=100)
    with serving(talk) as url:
        read_stream(url, "Gapless/test", reader)
    assert [int.from_bytes(message) for message in reader.told] == list(range(100))
    sips = sum(later - earlier > 0.002 for earlier, later in pairwise(reader.times))
    # The first look finds out that it is quiet; from then on there is one for each, however slow
    # the machine makes the sender.
    assert sips <= 20 + 2 * reader.ticks


@pytest.mark.parametrize(("count", "size"), [(8000, 5000), (20, 2 * MEGABYTE)])
def test_a_burst_after_silence_comes_whole_in_order_and_at_once(monkeypatch, count, size):
    """In sips it would take longer than the reader has patience."""
    monkeypatch.setattr(websocket, "TICK_SECONDS", 0.5)
    messages = [number.to_bytes(4) + bytes(size) for number in range(count)]

    def talk(socket):
        socket.send(b"first")
        time.sleep(2 * websocket.TICK_SECONDS)
        for message in messages:
            socket.send(message)
        socket.recv()

    reader = Reader(enough=count + 1)
    with serving(talk, max_size=None) as url:
        read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"first", *messages]


def test_a_reader_that_is_busy_holds_the_sender_back():
    """While a batch is committed nothing is read: the sender waits, and no memory is used."""
    sent, is_free = [], threading.Event()

    def talk(socket):
        for number in range(100):
            socket.send(number.to_bytes(4) + bytes(MEGABYTE))
            sent.append(number)
        socket.recv()

    class Busy(Reader):
        def message(self, data):
            if not self.told:
                assert is_free.wait(PATIENCE_S)
            super().message(data[:4])

    reader = Busy(enough=100)
    with serving(talk) as url:
        thread = threading.Thread(target=read_stream, args=(url, "Gapless/test", reader))
        thread.start()
        until, seen = time.monotonic() + PATIENCE_S, -1
        # Until the sender gets nothing away any more.
        while seen != len(sent) or not sent:
            assert time.monotonic() < until
            seen = len(sent)
            time.sleep(0.3)
        held_back = len(sent)
        is_free.set()
        thread.join(PATIENCE_S)
    assert held_back < 30, "some megabytes in the buffers of the kernel and the libraries"
    assert [int.from_bytes(message) for message in reader.told] == list(range(100))
