"""The bytes of a websocket, cut in any way, are the messages that were sent; or the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import StreamBroken
from server.ingest import frames
from server.ingest.frames import BINARY, CLOSE, PING, PONG, TEXT, Inbox, copies, frame
from tests.fuzzing import fuzz

CONTINUATION = 0


class Told:
    """Notes what it is told, in order."""

    def __init__(self):
        self.told = []

    def messages(self, memory, spans, *, is_text):
        for message in copies(memory, spans, is_text=is_text):
            self.told.append(message)
            yield

    def control(self, kind, payload):
        self.told.append((kind, payload))


def from_server(kind, payload, *, final=True, reserved=0, masked=False):
    """A frame as servers send them, or as they should not."""
    head = bytes(((0x80 if final else 0) | reserved | kind,))
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes((mask | len(payload),))
    elif len(payload) < 1 << 16:
        head += bytes((mask | 126,)) + len(payload).to_bytes(2)
    else:
        head += bytes((mask | 127,)) + len(payload).to_bytes(8)
    return head + (bytes(4) if masked else b"") + payload


def take_apart(inbox):
    """To the end."""
    for _ in inbox.take_apart():
        pass


def feed(data, sizes=()):
    """What a receiver is told of bytes that come in pieces of these sizes, and then as they fit."""
    receiver = Told()
    inbox, sizes = Inbox(receiver), iter(sizes)
    while data:
        room = inbox.room()
        count = min(len(room), next(sizes, len(room)), len(data))
        room[:count] = data[:count]
        data = data[count:]
        inbox.add(count)
        take_apart(inbox)
    return receiver.told


@st.composite
def talks(draw):
    """Frames of a well-behaved server, and what they mean."""
    wire, meaning = b"", []
    lengths = st.sampled_from((0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000))

    def control():
        kind, payload = draw(st.sampled_from((PING, PONG))), draw(st.binary(max_size=125))
        meaning.append((kind, payload))
        return from_server(kind, payload)

    for _ in range(draw(st.integers(0, 12))):
        length, letter = draw(lengths), draw(st.sampled_from(b"abc"))
        kind, payload = draw(st.sampled_from((TEXT, BINARY))), bytes((letter,)) * length
        cuts = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
        pieces = [payload[low:high] for low, high in zip([0, *cuts], [*cuts, length], strict=True)]
        for number, piece in enumerate(pieces):
            if draw(st.booleans()):
                wire += control()
            final = number == len(pieces) - 1
            wire += from_server(CONTINUATION if number else kind, piece, final=final)
        meaning.append(payload.decode() if kind == TEXT else payload)
    return wire, meaning


@fuzz(150)
@given(talk=talks(), sizes=st.lists(st.integers(1, 100_000), max_size=30))
def test_however_the_bytes_are_cut_the_same_messages_come(talk, sizes):
    wire, meaning = talk
    assert feed(wire, sizes) == meaning


@fuzz(150)
@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(1, 50), max_size=30))
def test_any_bytes_are_messages_or_the_end(data, sizes):
    def outcome(sizes):
        try:
            return feed(data, sizes)
        except StreamBroken:
            return "broken"

    assert outcome(sizes) == outcome(())


def test_a_byte_at_a_time_is_enough():
    wire = from_server(BINARY, b"x" * 70_000) + from_server(TEXT, "ä".encode())
    assert feed(wire, [1] * len(wire)) == [b"x" * 70_000, "ä"]


def test_long_frames_are_taken_in_and_the_memory_is_given_back():
    receiver = Told()
    inbox = Inbox(receiver)
    wire = from_server(BINARY, b"x" * 3_000_000)
    while wire:
        room = inbox.room()
        assert len(room) <= 3_000_000 + 64
        count = min(len(room), len(wire), 50_000)
        room[:count], wire = wire[:count], wire[count:]
        inbox.add(count)
        take_apart(inbox)
    assert receiver.told == [b"x" * 3_000_000]
    assert len(inbox.room()) == frames.BUFFER_BYTES


GOOD = from_server(BINARY, b"good")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (from_server(BINARY, b"x", masked=True), "masked"),
        (from_server(BINARY, b"x", reserved=0x40), "nobody agreed on"),
        (from_server(TEXT, b"x", reserved=0x10), "nobody agreed on"),
        (from_server(3, b"x"), "unknown kind: 3"),
        (from_server(11, b"x"), "unknown kind: 11"),
        (from_server(PING, b"x" * 126), "too long, or in pieces"),
        (from_server(PING, b"x", final=False), "too long, or in pieces"),
        (from_server(CONTINUATION, b"x"), "not in order"),
        (from_server(BINARY, b"x", final=False) + from_server(BINARY, b"y"), "not in order"),
        (from_server(TEXT, b"x", final=False) + from_server(TEXT, b"y", final=False), "order"),
        (b"\x82\x7f" + (1 << 63).to_bytes(8), "a message of more than"),
        (b"\x82\x7f" + (frames.MAX_MESSAGE_BYTES + 1).to_bytes(8), "a message of more than"),
    ],
)
def test_what_breaks_the_protocol_ends_the_stream_after_what_came_before(bad, reason):
    receiver = Told()
    inbox = Inbox(receiver)
    data = GOOD + GOOD + bad + GOOD
    inbox.room()[: len(data)] = data
    inbox.add(len(data))
    with pytest.raises(StreamBroken, match=reason):
        take_apart(inbox)
    assert receiver.told == [b"good", b"good"]


def test_pieces_that_never_end_are_bounded(monkeypatch):
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 1000)
    piece = from_server(CONTINUATION, b"x" * 100, final=False)
    feed(from_server(BINARY, b"", final=False) + piece * 10)
    with pytest.raises(StreamBroken, match="more than 1000 bytes"):
        feed(from_server(BINARY, b"", final=False) + piece * 11)


def test_what_the_receiver_raises_comes_out():
    class Full(Told):
        def control(self, kind, payload):
            raise StreamBroken("enough")

    inbox = Inbox(Full())
    data = from_server(CLOSE, b"")
    inbox.room()[: len(data)] = data
    inbox.add(len(data))
    with pytest.raises(StreamBroken, match="enough"):
        take_apart(inbox)


@fuzz(150)
@given(
    kind=st.sampled_from((TEXT, PING, PONG, CLOSE)),
    payload=st.one_of(st.binary(max_size=300), st.integers(0, 70_000).map(bytes)),
    mask=st.binary(min_size=4, max_size=4),
)
def test_what_we_send_is_masked_and_can_be_read(kind, payload, mask):
    sent = frame(kind, payload, mask)
    length = sent[1] & 0x7F
    assert sent[1] & 0x80
    size = {126: 2, 127: 8}.get(length, 0)
    if size:
        length = int.from_bytes(sent[2 : 2 + size])
    assert (sent[0], length) == (0x80 | kind, len(payload))
    assert sent[2 + size : 6 + size] == mask
    body = sent[6 + size :]
    assert bytes(byte ^ mask[n % 4] for n, byte in enumerate(body)) == payload


def rest_of(wire):
    """A receiver, and the steps in which it is told of these bytes."""
    receiver = Told()
    inbox = Inbox(receiver)
    inbox.room()[: len(wire)] = wire
    inbox.add(len(wire))
    return receiver, inbox.take_apart()


@pytest.mark.parametrize(
    ("wire", "count"),
    [
        ((from_server(BINARY, b"x") + from_server(PING, b"")) * 50, 100),
        (from_server(PONG, b"x") * 100, 100),
        ((from_server(BINARY, b"x") + from_server(TEXT, b"x")) * 50, 100),
        (from_server(BINARY, bytes(66_000)) * 10, 10),
        ((from_server(TEXT, b"x", final=False) + from_server(CONTINUATION, b"y")) * 50, 50),
        (from_server(BINARY, b"x") * 100, 100),
    ],
    ids=["runs of one", "pongs", "by turns", "long", "pieces", "one run"],
)
def test_whatever_stands_between_them_messages_come_step_by_step(wire, count):
    """So that others may have their turn after each, also where the receiver makes no steps."""
    receiver, steps = rest_of(wire)
    before = 0
    for _ in steps:
        assert len(receiver.told) <= before + 1
        before = len(receiver.told)
    assert before == count


class Hasty(Told):
    """Takes in what it is told in no steps of its own."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def messages(self, memory, spans, *, is_text):
        super().messages(memory, spans, is_text=is_text)
        self.sizes.append(len(spans))
        return ()


def test_no_run_is_longer_than_the_longest(monkeypatch):
    monkeypatch.setattr(frames, "RUN_MESSAGES", 10)
    receiver, wire = Hasty(), from_server(BINARY, b"x") * 95
    inbox = Inbox(receiver)
    inbox.room()[: len(wire)] = wire
    inbox.add(len(wire))
    assert [sum(receiver.sizes) for _ in inbox.take_apart()] == [*range(10, 91, 10), 95]
    assert receiver.sizes == [10] * 9 + [5]


def test_pieces_of_nothing_are_gone_through_step_by_step():
    wire = from_server(TEXT, b"", final=False) + from_server(CONTINUATION, b"", final=False) * 99
    receiver, steps = rest_of(wire)
    assert sum(1 for _ in steps) == 100
    assert receiver.told == []
