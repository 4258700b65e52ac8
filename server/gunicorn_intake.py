"""Requests are collected here until they are whole; only then a thread of gunicorn's reads them.

A client that sends half a request, or a body byte by byte, would hold a thread for as long as it is
allowed to take (Slowloris); a few dozen of them shut everybody else out. Here it costs a connection
and what it has said so far.

Promises. ENOUGH: gunicorn can read the request without waiting, or refuse it by what is there. What
it is to refuse it gets to see: nothing is judged here but where a request ends (RFC 9112, 6.3). A
client that waits for `100 Continue` gets it. Bounds: MAX_HEAD_BYTES, MAX_BODY_BYTES, MAX_CHUNKS,
and MAX_HELD_BYTES of all connections of a process together (and _READ_BYTES of each that sends
several requests at once); beyond these a request is refused unread. How long one may take is the
worker's to say.
"""

import re
import socket
import threading
from contextlib import suppress
from enum import Enum

# Four times what anybody sends who means well: a token has a kilobyte.
MAX_HEAD_BYTES = 32_768
# The largest body that anybody has reason to send: interactions of one app.
MAX_BODY_BYTES = 256 * 1024
# gunicorn copies with each chunk all that is behind it: a body in chunks of one byte was 10 s of
# work, one in so many is 0.06 s. Who means well sends a few chunks of kilobytes.
MAX_CHUNKS = 100
MAX_HELD_BYTES = 32 * 1024 * 1024
_READ_BYTES = 16_384

_LINE_END = b"\r\n"
_END = _LINE_END * 2
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*(?=\r\n)")
# Longer numbers are too much in any case; and of very long ones Python makes none.
_MAX_DIGITS = 19
_CODINGS = re.compile(rb"\r\ntransfer-encoding:([^\r]*)(?=\r\n)")
_CHUNK_SIZE = re.compile(rb"([0-9a-f]+)[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_WAITS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)")


class Verdict(Enum):
    """What to do with a connection that has said something."""

    MORE = "wait for the rest"
    ENOUGH = "have a thread read it"
    LONG_HEAD = "refuse: the head is too long"
    LONG_BODY = "refuse: the body is too long"
    NO_ROOM = "refuse: too much is held for others"
    GONE = "nobody is there any more"


class Room:
    """How much is held for all connections of a process."""

    def __init__(self, most: int = MAX_HELD_BYTES) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether there is room for so many bytes more; a negative number gives some back."""
        with self._lock:
            if count > 0 and self._held + count > self._most:
                return False
            self._held += count
            return True


class Intake:
    """What one connection has said of its next request. Used by one thread at a time."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._said = bytearray()
        self._counted = 0
        self._is_told = False
        # How many chunks are known to be whole, and where the next one begins.
        self._chunks = self._walked = 0

    def hear(self, client: socket.socket) -> Verdict:
        """Take what has come, without waiting."""
        verdict = self.judge()
        if verdict is not Verdict.MORE:
            return verdict
        try:
            piece = socket.socket.recv(client, _READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return Verdict.MORE
        except OSError:
            piece = b""
        if not piece:
            # gunicorn finds the end behind what there is.
            return Verdict.ENOUGH if self._said else Verdict.GONE
        self._said += piece
        verdict = self.judge()
        if verdict is Verdict.MORE:
            return self._keep(client)
        return verdict

    def put_back(self, said: bytes) -> None:
        """What was read beyond the end of the last request."""
        self._said += said

    def take(self) -> bytes:
        """All that was said; then there is nothing any more."""
        said = bytes(self._said)
        self.clear()
        return said

    def clear(self) -> None:
        """Forget it."""
        self._room.take(-self._counted)
        self._said.clear()
        self._counted = 0
        self._is_told = False
        self._chunks = self._walked = 0

    def judge(self) -> Verdict:
        """Whether what was said is a whole request."""
        said = self._said
        if said and said[0] in b"\r\n":
            # Empty lines before a request are passed over (RFC 9112, 2.2).
            said[:] = said.lstrip(b"\r\n")
        end = said.find(_END)
        if max(end, 0) > MAX_HEAD_BYTES or (end < 0 and len(said) > MAX_HEAD_BYTES):
            return Verdict.LONG_HEAD
        if end < 0:
            return Verdict.MORE
        return self._judge_body(said[: end + 2].lower(), end + len(_END))

    def _judge_body(self, head: bytearray, begin: int) -> Verdict:
        lengths = _LENGTH.findall(head)
        is_chunked = _is_chunked(head)
        if len(lengths) + is_chunked != 1:
            # No body, or a head that is refused.
            return Verdict.ENOUGH
        if is_chunked:
            return self._judge_chunks(begin)
        digits = lengths[0].lstrip(b"0") or b"0"
        if len(digits) > _MAX_DIGITS or int(digits) > MAX_BODY_BYTES:
            return Verdict.LONG_BODY
        return Verdict.MORE if len(self._said) - begin < int(digits) else Verdict.ENOUGH

    def _judge_chunks(self, begin: int) -> Verdict:
        """Go from chunk to chunk: what is in one may look like the end."""
        self._walked = max(self._walked, begin)
        while isinstance(found := _behind_chunk(self._said, self._walked), int):
            self._chunks, self._walked = self._chunks + 1, found
            if self._chunks > MAX_CHUNKS:
                return Verdict.LONG_BODY
        if found is Verdict.MORE and len(self._said) - begin > MAX_BODY_BYTES:
            return Verdict.LONG_BODY
        return found

    def _keep(self, client: socket.socket) -> Verdict:
        grown = len(self._said) - self._counted
        if not self._room.take(grown):
            return Verdict.NO_ROOM
        self._counted += grown
        if not self._is_told and self._waits_for_word():
            self._is_told = True
            with suppress(OSError):
                client.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
        return Verdict.MORE

    def _waits_for_word(self) -> bool:
        end = self._said.find(_END)
        return end >= 0 and _WAITS.search(self._said[: end + 2].lower()) is not None


def _is_chunked(head: bytearray) -> bool:
    """Whether chunks follow, whatever codings come before; an order of others is refused."""
    codings = b",".join(_CODINGS.findall(head)).split(b",")
    return codings[-1].strip(b" \t") == b"chunked"


def _behind_chunk(said: bytearray, at: int) -> int | Verdict:
    """Where the chunk that begins at `at` ends; a verdict where it is the last, or not whole."""
    end = said.find(_LINE_END, at)
    if end < 0:
        return Verdict.MORE
    size = _CHUNK_SIZE.fullmatch(said, at, end)
    count = int(size[1], 16) if size is not None else None
    if not count:
        # No chunk, which is refused; or the last one, with trailers or without.
        return Verdict.ENOUGH if count is None or said.find(_END, end) >= 0 else Verdict.MORE
    if count > MAX_BODY_BYTES:
        return Verdict.LONG_BODY
    behind = end + len(_LINE_END) + count + len(_LINE_END)
    if len(said) < behind:
        return Verdict.MORE
    return behind if said.endswith(_LINE_END, 0, behind) else Verdict.ENOUGH
