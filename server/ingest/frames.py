"""The messages in the bytes of a websocket, found where they lie (RFC 6455, from a server). Pure.

Promises. Messages are handed over whole and in order, many at a time: a memory, and where in it
each one is. Nothing is copied but fragments, and what is left of a read when the next one begins.
Pings, pongs and closes come in their order among them. What breaks the protocol (a frame that is
masked, of an unknown kind, with bits that nobody agreed on, a control frame too long or in pieces,
a message begun within another one) or is too long raises StreamBroken; what came before it has been
handed over.

Bounds: BUFFER_BYTES, and while a longer frame comes in, its length, at most MAX_MESSAGE_BYTES. The
fragments of one message have the same bound together.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from server.core.errors import StreamBroken

# The protocol of relays has a bound of 5 MB for a frame.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# What is read at once at most. With a quarter of it, turns of the event loop are a tenth of all
# that a stranger's message costs.
BUFFER_BYTES = 1024 * 1024
# Before it is sure that a head is here as a whole, it is looked at as if it were.
_SLACK_BYTES = 16

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION, _FINAL, _RESERVED, _KIND = 0, 0x80, 0x70, 0x0F
_WHOLE_TEXT, _WHOLE_BINARY = _FINAL | TEXT, _FINAL | BINARY
# No first byte of a frame.
_NONE = -1
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

    def messages(self, memory: memoryview, spans: Sequence[Span], *, is_text: bool) -> None:
        """Whole messages, in order. The memory is used again: keep copies only."""

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

    def take_apart(self) -> None:
        """Hand over what is here as a whole. Raises StreamBroken, and what the receiver raises."""
        buffer, position, end = self._buffer, self._start, self._end
        spans: list[Span] = []
        # Whole messages of this kind are what nearly everything is. Within a message that comes in
        # pieces there can be none.
        usual = _NONE if self._open_kind else _WHOLE_BINARY
        self._length = 0
        while position + 2 <= end:
            size = buffer[position + 1]
            if size == 126:
                start = position + 4
                stop = start + (buffer[position + 2] << 8 | buffer[position + 3])
            elif size < 126:
                start = position + 2
                stop = start + size
            else:
                # It may raise: what came before it goes first.
                self._hand_over(spans, usual)
                spans = []
                start, stop = self._long(position, size, end)
            if stop > end:
                # Where its head is not here either, this is wrong, and not too little.
                self._length = stop - position if start <= end else 0
                break
            first = buffer[position]
            position = stop
            if first == usual:
                spans.append((start, stop))
                continue
            self._hand_over(spans, usual)
            spans = []
            if not self._open_kind and first in (_WHOLE_TEXT, _WHOLE_BINARY):
                usual = first
                spans.append((start, stop))
            else:
                self._other(first, bytes(self._memory[start:stop]))
                usual = _NONE if self._open_kind else _WHOLE_BINARY
        self._start = position
        self._hand_over(spans, usual)

    def _make_room_of(self, size: int) -> None:
        self._buffer = bytearray(size + _SLACK_BYTES)
        self._memory = memoryview(self._buffer)

    def _hand_over(self, spans: list[Span], usual: int) -> None:
        if spans:
            self._receiver.messages(self._memory, spans, is_text=usual == _WHOLE_TEXT)

    def _long(self, position: int, size: int, end: int) -> Span:
        """Of a frame of more than 65,535 bytes, or one with a mask."""
        if size > 127:
            raise StreamBroken("a masked frame, which no server sends")
        start = position + 10
        length = int.from_bytes(self._memory[position + 2 : start])
        if start <= end and length > MAX_MESSAGE_BYTES:
            raise _too_long()
        return start, start + length

    def _other(self, first: int, payload: bytes) -> None:
        """What is not a whole message where one can be."""
        kind, is_final = first & _KIND, bool(first & _FINAL)
        if first & _RESERVED:
            raise StreamBroken("a frame with bits that nobody agreed on")
        if kind in (CLOSE, PING, PONG):
            if not is_final or len(payload) > _MAX_CONTROL_BYTES:
                raise StreamBroken("a control frame that is too long, or in pieces")
            self._receiver.control(kind, payload)
        elif kind in (TEXT, BINARY, _CONTINUATION):
            if (kind == _CONTINUATION) != bool(self._open_kind):
                raise StreamBroken("the pieces of a message are not in order")
            self._join(kind, payload, is_final=is_final)
        else:
            raise StreamBroken(f"a frame of an unknown kind: {kind}")

    def _join(self, kind: int, payload: bytes, *, is_final: bool) -> None:
        self._open_kind = kind or self._open_kind
        self._pieces += payload
        if len(self._pieces) > MAX_MESSAGE_BYTES:
            raise _too_long()
        if is_final:
            whole, is_text = self._pieces, self._open_kind == TEXT
            self._pieces, self._open_kind = bytearray(), 0
            self._receiver.messages(memoryview(whole), [(0, len(whole))], is_text=is_text)


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
