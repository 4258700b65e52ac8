"""A GET over a connection to a stranger, and the answer within bounds. Connections kept for reuse.

A backfill makes four requests an author, in threads that share one interpreter, so each is short:
llhttp (in C, by httptools) takes the answer apart, and nothing is made of what nobody asks for.

The peer may be slow, silent, endless, or speak no HTTP at all. Everything ends at the deadline; no
more is held than a head of MAX_HEAD_BYTES, a body up to its cap and a piece of CHUNK_BYTES, and no
more than twice that is read. Whom we may ask is dial.py's affair, what statuses mean fetcher.py's.
"""

import socket
import threading
import time
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import httptools

# Bytes read at a time.
CHUNK_BYTES = 65_536

# Of everything before the body, interim answers (1xx) too. Servers send less than a kilobyte.
MAX_HEAD_BYTES = 65_536

# Of an error's body we want the name in it; a page of HTML is of no use to us. Bytes.
MAX_ERROR_BYTES = 16_384

# Connections kept open in all. Beyond that those of the host unused for longest are closed first.
MAX_KEPT = 512
# Servers close what is idle for longer, and an address may be another host's by then.
KEPT_SECONDS = 60.0

# Other statuses have no body for us.
_READ_STATUSES = frozenset({200, 400, 404, 410})
_GZIP = 16 + zlib.MAX_WBITS


class EndsEarly(Exception):
    """The peer hung up in the middle of its answer."""


class NotHttp(Exception):
    """What came is no answer to a GET; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said. Headers' names are in lower case; of several alike the last one counts.

    `body` is decompressed; None when it was not wanted, too large (as `is_too_large` says), or
    compressed in no way we know. `is_reusable`: the connection may carry another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    is_reusable: bool
    is_too_large: bool = False


def get(sock: socket.socket, request: bytes, deadline: float, max_bytes: int) -> Answer:
    """Send `request`, the bytes of a GET, and read the answer until `deadline` (time.monotonic).

    `max_bytes` bounds the body of a 200 after decompression. Raises OSError (among them
    TimeoutError and ConnectionError), EndsEarly and NotHttp; the connection is spoilt then.
    """
    sock.settimeout(_left_s(deadline))
    sock.sendall(request)
    reading = _Reading(max_bytes)
    try:
        while not reading.is_over:
            sock.settimeout(_left_s(deadline))
            reading.feed(sock.recv(CHUNK_BYTES))
        return reading.answer()
    finally:
        reading.close()


class KeptConnections:
    """Connections that wait for another request, by host. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, list[tuple[float, socket.socket]]] = OrderedDict()
        self._count = 0
        # Whoever forgets to close them lets go of them all the same.
        weakref.finalize(self, _close_all, self._hosts)

    def take(self, host: str) -> socket.socket | None:
        """The connection to a host that was used last, for the caller alone; None without one."""
        with self._lock:
            kept = self._hosts.get(host)
            if kept is None:
                return None
            kept_at, sock = kept.pop()
            is_fresh = kept_at > time.monotonic() - KEPT_SECONDS
            # Those below it are older.
            closing = [] if is_fresh else [sock, *(old for _, old in kept)]
            self._count -= max(1, len(closing))
            if closing or not kept:
                del self._hosts[host]
        _close(closing)
        return sock if is_fresh else None

    def keep(self, host: str, sock: socket.socket) -> None:
        """Keep a connection, perhaps at the cost of another one."""
        closing = []
        with self._lock:
            self._hosts.setdefault(host, []).append((time.monotonic(), sock))
            self._hosts.move_to_end(host)
            self._count += 1
            if self._count > MAX_KEPT:
                unused, kept = next(iter(self._hosts.items()))
                closing = [kept.pop(0)[1]]
                self._count -= 1
                if not kept:
                    del self._hosts[unused]
        _close(closing)

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            _close_all(self._hosts)
            self._count = 0


class _Reading:
    """An answer on its way in. The methods `on_…` are called by the parser."""

    def __init__(self, max_bytes: int) -> None:
        self.is_over = False
        self._max_bytes = max_bytes
        self._has_head = False
        # By what the body ends; else it ends with the connection.
        self._has_end = False
        self._wire_bytes = 0
        self._is_reusable = False
        self._is_too_large = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: bytearray | None = bytearray()
        self._gunzip: zlib._Decompress | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def close(self) -> None:
        """Let go of the parser, which holds us."""
        self._parser = None

    def answer(self) -> Answer:
        """What came, once it is over. Raises EndsEarly."""
        if self._gunzip is not None and self._body and not self._gunzip.eof:
            raise EndsEarly
        body = None if self._body is None else bytes(self._body)
        return Answer(self._status, self._headers, body, self._is_reusable, self._is_too_large)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the connection; none when the peer has hung up."""
        if not piece:
            self._hung_up()
            return
        self._wire_bytes += len(piece)
        try:
            assert self._parser is not None  # noqa: S101  nobody feeds after `close`
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as error:
            raise NotHttp("it changes the protocol") from error
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, zlib.error):
                raise NotHttp("a body that is not gzip") from error
            # What stands behind the answer is nothing to us.
            if not self.is_over:
                raise NotHttp(str(error)) from error
            self._is_reusable = False
        if not self._has_head and self._wire_bytes > MAX_HEAD_BYTES:
            raise NotHttp("headers without end")
        if self._wire_bytes > 2 * (MAX_HEAD_BYTES + self._max_bytes):
            self._is_too_large = True
            self._give_up()

    def _hung_up(self) -> None:
        if not self._wire_bytes:
            raise ConnectionAbortedError("it hung up")
        if not self._has_head or self._has_end:
            raise EndsEarly
        self.is_over = True

    def on_message_begin(self) -> None:
        # A second answer, which nobody asked for.
        if self.is_over:
            self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body in chunks is not looked at.
        if not self._has_head:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        if self.is_over:
            return
        assert self._parser is not None  # noqa: S101  it is the caller
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._headers.clear()
            return
        self._has_head = True
        self._is_reusable = self._parser.should_keep_alive()
        self._has_end = not self._headers.keys().isdisjoint(("content-length", "transfer-encoding"))
        if self._status != 200:
            self._max_bytes = MAX_ERROR_BYTES
        encoding = self._headers.get("content-encoding", "identity").lower()
        if encoding in ("gzip", "x-gzip"):
            # Our own decompression, because its output must be bounded.
            self._gunzip = zlib.decompressobj(_GZIP)
        elif encoding != "identity":
            self._give_up()
        if self._status not in _READ_STATUSES:
            self._give_up()

    def on_body(self, piece: bytes) -> None:
        if self.is_over or self._body is None:
            return
        if self._gunzip is not None:
            piece = self._gunzip.decompress(piece, self._max_bytes + 1 - len(self._body))
        self._body += piece
        if len(self._body) > self._max_bytes:
            self._is_too_large = True
            self._give_up()

    def on_message_complete(self) -> None:
        if self._has_head and not self.is_over:
            self.is_over = True

    def _give_up(self) -> None:
        """Read no more: there is a body, or the rest of one, that we do not want."""
        self.is_over, self._is_reusable, self._body = True, False, None


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


def _close_all(hosts: dict[str, list[tuple[float, socket.socket]]]) -> None:
    while hosts:
        _close([sock for _, sock in hosts.popitem()[1]])


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
