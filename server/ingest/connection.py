"""One connection to a websocket server, from the dialling to its end; what asyncio calls.

Promises. `connect` brings a connection that stands, in good time (dialling.py, HANDSHAKE_SECONDS
for TLS and as many for HTTP), after MAX_REDIRECTS redirections at most, or raises. From then on a
handler is told what comes, in the thread of the event loop, by turns with whatever else that does
(turns.py), and until it has taken in what was read nothing more is read.
What it raises, and what breaks the protocol, is remembered as `error` and ends the connection;
pings are answered, of those of one turn the last. A server that does not read what we say, pongs
among it, is left.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from server.core.errors import StreamBroken
from server.ingest import handshake
from server.ingest.dialling import dial
from server.ingest.frames import CLOSE, PING, PONG, TEXT, Inbox, Span, frame, goodbye
from server.ingest.handshake import HandshakeRefused
from server.ingest.turns import Turns

HANDSHAKE_SECONDS = 15.0
MAX_REDIRECTS = 2
# What we say and the other side does not read. All wishes of a Jetstream's are less.
MAX_UNREAD_BYTES = 1 << 20

# How the words begin with which the other side ended a connection.
CLOSED, CUT = "closed by the server", "the connection was cut"

# What can go wrong before a connection stands.
CONNECT_ERRORS = (OSError, HandshakeRefused, TimeoutError, ValueError)


class Line:
    """What can be said to the other side of a connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._said = 0
        # Whom to tell that a ping with these bytes was answered.
        self._unread: dict[bytes, Callable[[], None]] = {}

    def say(self, text: str, was_read: Callable[[], None]) -> None:
        """Send a text message. `was_read` is called when the other side has taken it in.

        Both sides take what comes in its order: the answer to a ping says that all before it was
        read.
        """
        self._said += 1
        mark = b"read %d" % self._said
        self._unread[mark] = was_read
        self.send(TEXT, text.encode())
        self.send(PING, mark)

    def send(self, kind: int, payload: bytes) -> None:
        """Send a frame. Raises StreamBroken when what was sent before is not read."""
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            raise StreamBroken(f"the server left {MAX_UNREAD_BYTES} bytes of ours unread")
        self._transport.write(frame(kind, payload, os.urandom(4)))

    def answer(self, mark: bytes) -> None:
        """A pong came."""
        was_read = self._unread.pop(mark, None)
        if was_read is not None:
            was_read()


class Listener(Protocol):
    """Who is told what comes. Each method may raise, which ends the connection."""

    def opened(self, line: Line) -> None:
        """The connection stands; messages sent from now on will arrive."""

    def arrived(self) -> None:
        """The socket was read: what `messages` tells until the next time was sent before now."""

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterable[None]:
        """Whole messages, in order, where they lie: keep copies only. See frames.Receiver."""


class Connection(asyncio.BufferedProtocol):
    """What asyncio calls. Remembers how it ended: by `error`, or with what `goodbye` says.

    `answered`: the handshake is over, one way or the other. `heard`: messages since the last look.
    """

    transport: asyncio.Transport
    line: Line
    turns: Turns

    def __init__(self, handler: Listener, request: bytes, key: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.error: BaseException | None = None
        self.goodbye: str | None = None
        self.is_open = False
        self.heard = 0
        self._handler, self._request, self._key = handler, request, key
        self._inbox = Inbox(self)
        self._has_sign = False
        # What the last ping said that is not answered yet.
        self._ping: bytes | None = None
        # A refusal of which the body is still to come.
        self._refused: HandshakeRefused | None = None

    def take_sign(self) -> bool:
        """Whether anything came since this was asked last."""
        has_sign, self._has_sign = self._has_sign, False
        return has_sign

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; over TLS when that stands."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  for the type
        self.transport, self.line = transport, Line(transport)
        self.turns = Turns(transport, self._pong, self._end)
        transport.write(self._request)

    def leave(self) -> None:
        """End it here and now; the handler is told nothing more."""
        self.turns.drop()
        self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by asyncio before it reads."""
        del sizehint
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio after it read; must not raise."""
        # What arrives after an error would be handled out of order.
        if self.error is not None or self.goodbye is not None:
            return
        self._has_sign = True
        self._inbox.add(nbytes)
        try:
            if not self.is_open and not self._opens():
                return
            self._handler.arrived()
        except BaseException as error:  # noqa: BLE001  it is raised again by websocket.py
            self._end(error)
        else:
            self.turns.take_in(self._inbox.take_apart())

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio in the end, whoever ended it."""
        self.turns.when_done(lambda: self._lost(exc))

    def _lost(self, exc: Exception | None) -> None:
        if self.is_open:
            self.goodbye = self.goodbye or (CUT if exc is None else f"{CUT}: {named(exc)}")
            self._end(None)
        else:
            none = HandshakeRefused("the connection ended before there was an answer")
            self._end(self.refusal() or exc or none)

    def refusal(self) -> HandshakeRefused | None:
        """How the server refused us, with as much as is here of what it says to that."""
        refused = self._refused
        return None if refused is None else refused.with_body(self._inbox.rest())

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterable[None]:
        """See frames.Receiver."""
        if self.goodbye is not None:
            return ()
        self.heard += len(spans)
        return self._handler.messages(memory, spans, is_text=is_text)

    def control(self, kind: int, payload: bytes) -> None:
        """See frames.Receiver."""
        if self.goodbye is not None:
            return
        if kind == PING:
            self._ping = payload
        elif kind == PONG:
            self.line.answer(payload)
        else:
            self.goodbye = f"{CLOSED}: {goodbye(payload)}"
            # The other side waits for ours before it lets go.
            self.line.send(CLOSE, payload[:2])
            self.transport.close()
            self._end(None)

    def _pong(self) -> None:
        """Answer the last ping, which stands for those before it (RFC 6455, section 5.5.3).

        To answer each of half a million in a megabyte would take seconds.
        """
        ping, self._ping = self._ping, None
        if ping is not None and not self.transport.is_closing():
            self.line.send(PONG, ping)

    def _opens(self) -> bool:
        """Whether the answer to our request is here, and opens a websocket."""
        if self._refused is None:
            head = self._inbox.take_head()
            if head is None:
                if self._inbox.held() > handshake.MAX_HEAD_BYTES:
                    raise HandshakeRefused("the head of the answer has no end")
                return False
            self._check(head)
        if self._refused is None:
            self.is_open = True
            self._handler.opened(self.line)
            _settle(self.answered)
        elif self._refused.is_whole(self._inbox.rest()):
            self._end(self.refusal())
        return self.is_open

    def _check(self, head: bytes) -> None:
        try:
            handshake.check(head, self._key)
        except HandshakeRefused as refused:
            if not refused.has_body():
                raise
            self._refused = refused

    def _end(self, error: BaseException | None) -> None:
        if self.error is None:
            self.error = error
        _settle(self.answered)
        _settle(self.ended)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def connect(url: str, user_agent: str, handler: Listener) -> Connection:
    """A connection that stands, or the handler's error in one. Raises CONNECT_ERRORS."""
    parts = urlsplit(url)
    for redirects in range(MAX_REDIRECTS + 1):
        connection = await _connect(parts, user_agent, handler)
        error = connection.error
        if connection.is_open or error is None:
            return connection
        connection.leave()
        follow = None if redirects == MAX_REDIRECTS else _redirect(parts, error)
        if follow is None:
            raise error
        parts = follow
    raise AssertionError("the last round returns or raises")


async def _connect(url: SplitResult, user_agent: str, handler: Listener) -> Connection:
    if url.scheme not in ("ws", "wss") or not url.hostname:
        raise ValueError("not the address of a websocket")
    key = handshake.new_key(os.urandom(16))
    request = handshake.request(url, key, user_agent)
    tls: dict[str, Any] = {}
    if url.scheme == "wss":
        tls = {
            "ssl": True,
            "server_hostname": url.hostname,
            "ssl_handshake_timeout": HANDSHAKE_SECONDS,
        }
    sock = await dial(url.hostname, handshake.port_of(url))
    loop = asyncio.get_running_loop()
    connection = Connection(handler, request, key)
    await loop.create_connection(lambda: connection, sock=sock, **tls)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await connection.answered
    except TimeoutError as slow:
        connection.leave()
        # What was said counts, even if it has no end.
        raise connection.refusal() or slow from None
    except BaseException:
        connection.leave()
        raise
    return connection


def _redirect(url: SplitResult, error: BaseException) -> SplitResult | None:
    """Where the server sends us, if it does; never from a safe place to one that is not."""
    if not isinstance(error, HandshakeRefused) or error.status not in (301, 302, 307, 308):
        return None
    place = urlsplit(urljoin(url.geturl(), error.headers.get("location", "")))
    scheme = {"http": "ws", "https": "wss"}.get(place.scheme, place.scheme)
    if url.scheme == "wss" and scheme != "wss":
        return None
    return place._replace(scheme=scheme)


def named(error: BaseException) -> str:
    """Its kind, and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
