"""The messages in the bytes of a websocket, found where they lie (RFC 6455, from a server). Pure.

Promises. Messages are handed over whole and in order, many at a time: a memory, and where in it
each one is. Nothing is copied but fragments, and what is left of a read when the next one begins.
What was read is taken apart step by step: between two steps anything else may happen (turns.py).
Pings, pongs and closes come in their order among them. What breaks the protocol (a frame that is
masked, of an unknown kind, with bits that nobody agreed on, a control frame too long or in pieces,
a message begun within another one) or is too long raises StreamBroken; what came before it has been
handed over.

Bounds: BUFFER_BYTES, and while a longer frame comes in, its length, at most MAX_MESSAGE_BYTES. The
fragments of one message have the same bound together. A step is RUN_MESSAGES, or one control frame.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from server.core.errors import StreamBroken

# The protocol of relays has a bound of 5 MB for a frame.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# What is read at once at most. With a quarter of it, turns of the event loop are a tenth of all
# that a stranger's message costs.
BUFFER_BYTES = 1024 * 1024
# What is handed over at once at most. A megabyte of a busy network is less; one of the shortest
# frames there are is half a million.
RUN_MESSAGES = 4096
# Before it is sure that a head is here as a whole, it is looked at as if it were.
_SLACK_BYTES = 16

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION, _FINAL, _RESERVED, _KIND = 0, 0x80, 0x70, 0x0F
_WHOLE_TEXT, _WHOLE_BINARY = _FINAL | TEXT, _FINAL | BINARY
# How long a head is, if the second byte does not say the length itself.
_HEAD_BYTES = {126: 4, 127: 10}
_MAX_CONTROL_BYTES = 125

# RFC 6455, section 7.4.1, and the registry that it founded.
_CLOSE_NAMES = {
    1000: "OK",
    1001: "GOING_AWAY",
    1002: "PROTOCOL_ERROR",
    1003: "UNSUPPORTED_DATA",
    1007: "INVALID_TEXT",
    1008: "POLICY_VIOLATION",
    1009: "MESSAGE_TOO_BIG",
    1011: "INTERNAL_ERROR",
    1012: "SERVICE_RESTART",
    1013: "TRY_AGAIN_LATER",
}

# Where a message begins and ends in the memory.
Span = tuple[int, int]


class Receiver(Protocol):
    """Who is told what came. Each method may raise, which ends the reading."""

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterable[None]:
        """Whole messages, in order. The memory is used again: keep copies only.

        They are taken in when what it gives is gone through, a step each time it yields.
        """

    def control(self, kind: int, payload: bytes) -> None:
        """A PING, a PONG or a CLOSE."""


class Inbox:
    """What has been received and not yet handed over."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._make_room_of(BUFFER_BYTES)
        # What is not yet taken apart lies between these.
        self._start = self._end = 0
        # Of the frame at the start, as soon as its head says so.
        self._length = 0
        # Of a message that comes in pieces: its kind (0: there is none), and what is here of it.
        self._open_kind = 0
        self._pieces = bytearray()

    def room(self) -> memoryview:
        """Where the next bytes are to be put: never empty."""
        held = self._end - self._start
        size = max(BUFFER_BYTES, self._length)
        if size != len(self._buffer) - _SLACK_BYTES:
            rest = bytes(self._memory[self._start : self._end])
            self._make_room_of(size)
            self._buffer[:held] = rest
        elif self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held
        return self._memory[held:size]

    def add(self, count: int) -> None:
        """So many bytes have been put into the room."""
        self._end += count

    def held(self) -> int:
        """How many bytes are here that nothing was made of yet."""
        return self._end - self._start

    def take_head(self) -> bytes | None:
        """The head of an HTTP message at the start, as soon as it is there as a whole."""
        end = self._buffer.find(b"\r\n\r\n", self._start, self._end)
        if end < 0:
            return None
        head = bytes(self._memory[self._start : end])
        self._start = end + 4
        return head

    def rest(self) -> bytes:
        """All that is here and nothing was made of yet; it stays."""
        return bytes(self._memory[self._start : self._end])

    def take_apart(self) -> Iterator[None]:
        """Hand over what is here as a whole. Raises StreamBroken, and what the receiver raises.

        After each step others may have their turn, as long as nothing is put into the room.
        """
        self._length = 0
        while (span := self._first_span()) is not None:
            first = self._buffer[self._start]
            # Within a message that comes in pieces there can be no whole one.
            if first in (_WHOLE_BINARY, _WHOLE_TEXT) and not self._open_kind:
                spans = self._run(first, span)
                is_text = first == _WHOLE_TEXT
                yield from self._receiver.messages(self._memory, spans, is_text=is_text)
            else:
                self._start = span[1]
                yield from self._other(first, bytes(self._memory[slice(*span)]))
            yield

    def _make_room_of(self, size: int) -> None:
        self._buffer = bytearray(size + _SLACK_BYTES)
        self._memory = memoryview(self._buffer)

    def _first_span(self) -> Span | None:
        """Where the payload of the frame at the start is, if that is here as a whole."""
        position, end = self._start, self._end
        if position + 2 > end:
            return None
        size = self._buffer[position + 1]
        if size > 127:
            raise StreamBroken("a masked frame, which no server sends")
        start = position + _HEAD_BYTES.get(size, 2)
        if start > end:
            return None
        length = size if size < 126 else int.from_bytes(self._memory[position + 2 : start])
        if length > MAX_MESSAGE_BYTES:
            raise _too_long()
        stop = start + length
        if stop > end:
            self._length = stop - position
            return None
        return start, stop

    def _run(self, usual: int, span: Span) -> list[Span]:
        """The first message and those of the same kind that follow it, RUN_MESSAGES at most.

        Nearly everything goes this way: what each of them costs is what reading costs.
        """
        buffer, position, end = self._buffer, span[1], self._end
        spans = [span]
        for _ in range(RUN_MESSAGES - 1):
            if position + 2 > end or buffer[position] != usual:
                break
            size = buffer[position + 1]
            if size == 126:
                start = position + 4
                stop = start + (buffer[position + 2] << 8 | buffer[position + 3])
            elif size < 126:
                start = position + 2
                stop = start + size
            else:
                break
            # Where its head is not here either, this is wrong, and not too little.
            if stop > end:
                break
            spans.append((start, stop))
            position = stop
        self._start = position
        return spans

    def _other(self, first: int, payload: bytes) -> Iterable[None]:
        """What is not a whole message where one can be."""
        kind, is_final = first & _KIND, bool(first & _FINAL)
        if first & _RESERVED:
            raise StreamBroken("a frame with bits that nobody agreed on")
        if kind in (CLOSE, PING, PONG):
            if not is_final or len(payload) > _MAX_CONTROL_BYTES:
                raise StreamBroken("a control frame that is too long, or in pieces")
            self._receiver.control(kind, payload)
            return ()
        if kind not in (TEXT, BINARY, _CONTINUATION):
            raise StreamBroken(f"a frame of an unknown kind: {kind}")
        if (kind == _CONTINUATION) != bool(self._open_kind):
            raise StreamBroken("the pieces of a message are not in order")
        return self._join(kind, payload, is_final=is_final)

    def _join(self, kind: int, payload: bytes, *, is_final: bool) -> Iterable[None]:
        self._open_kind = kind or self._open_kind
        self._pieces += payload
        if len(self._pieces) > MAX_MESSAGE_BYTES:
            raise _too_long()
        if not is_final:
            return ()
        whole, is_text = self._pieces, self._open_kind == TEXT
        self._pieces, self._open_kind = bytearray(), 0
        return self._receiver.messages(memoryview(whole), [(0, len(whole))], is_text=is_text)


def copies(memory: memoryview, spans: Sequence[Span], *, is_text: bool) -> Iterator[bytes | str]:
    """The messages to keep: bytes of binary ones, text of text ones."""
    for start, stop in spans:
        data = bytes(memory[start:stop])
        yield data.decode("utf-8", "replace") if is_text else data


def goodbye(payload: bytes) -> str:
    """What a close frame says: two bytes of code, and a reason (RFC 6455, section 5.5.1)."""
    if len(payload) < 2:
        return "no code"
    code = int.from_bytes(payload[:2])
    name = _CLOSE_NAMES.get(code, "")
    return " ".join(filter(None, (str(code), name, payload[2:].decode("utf-8", "replace"))))


def frame(kind: int, payload: bytes, mask: bytes) -> bytes:
    """A frame of ours: whole, and masked with four bytes, as a client's have to be."""
    length = len(payload)
    if length < 126:
        head = bytes((_FINAL | kind, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((_FINAL | kind, 0x80 | 126)) + length.to_bytes(2)
    else:
        head = bytes((_FINAL | kind, 0x80 | 127)) + length.to_bytes(8)
    key = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(length)
    return head + mask + masked


def _too_long() -> StreamBroken:
    return StreamBroken(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
