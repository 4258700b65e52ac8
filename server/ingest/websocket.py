"""One websocket connection, read as fast as it comes. Knows nothing of what the messages mean.

Promises. Every message is handed over whole and in order, in the thread that called. Nothing is
queued here: while the caller works, nothing is read, so a slow database slows the sender down
through TCP and costs no memory. The caller is called at least every TICK_SECONDS, messages or not;
a message of a quiet stream may wait as long.
The end is always StreamBroken with a reason, whatever it was: no connection in good time
(dialling.py, HANDSHAKE_SECONDS for TLS and as many for HTTP), a clean close, an error, a socket
that is half open (pings unanswered), silence, a message too large. What the caller raises, comes
out. The caller may say something, too, and is told when the other side has read it.

picows reads in C and hands each frame to a callback: a sixth of the cost of `websockets`, and it
keeps up beside busy threads (docs/decisions.md).
"""

import asyncio
import time
from array import array
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Any, Protocol

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from server.core.errors import StreamBroken, StreamHalfOpen, StreamSilent
from server.ingest.dialling import dial

# How often the caller gets to look at its clock and its stop event.
TICK_SECONDS = 0.05
HANDSHAKE_SECONDS = 15.0
# With fewer messages than this in a tick, what comes is read once a tick: to wake up for each of a
# few hundred messages a second costs ten times as much as reading them. A buffer that is not empty
# after so many reads is a sign that there is more to do than that.
QUIET_MESSAGES = 500
SIP_READS = 20
# The protocol's bound on a frame is 5 MB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# A quiet socket is asked whether it lives; one that does not answer is given up.
PING_IDLE_SECONDS = 20.0
PING_REPLY_SECONDS = 20.0
# A server that answers pings and says nothing may have lost us. To connect again costs nothing.
SILENCE_SECONDS = 300.0
READ_BUFFER_BYTES = 512 * 1024


_BINARY = WSMsgType.BINARY
_CLOSE_NAMES = {code.value: code.name for code in WSCloseCode}


class Line:
    """What can be said to the other side of a connection."""

    def __init__(self, transport: WSTransport) -> None:
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
        self._transport.send(WSMsgType.TEXT, text.encode())
        self._transport.send_ping(mark)

    def is_answer(self, frame: WSFrame) -> bool:
        """Whether a pong is for one of our own pings, and not for one that asks for life."""
        return frame.get_payload_as_bytes() in self._unread

    def answer(self, mark: bytes) -> None:
        """A pong came."""
        was_read = self._unread.pop(mark, None)
        if was_read is not None:
            was_read()


class Handler(Protocol):
    """Who reads a stream. Each method may raise, which ends the connection."""

    def opened(self, line: Line) -> None:
        """The connection stands; messages sent from now on will arrive."""

    def message(self, data: bytes | str) -> None:
        """One whole message: bytes of a binary one, text of a text one."""

    def tick(self) -> bool:
        """Called often; False ends the connection."""


def read_stream(url: str, user_agent: str, handler: Handler) -> None:
    """Read `url` until the handler has enough (then return) or the stream ends (StreamBroken)."""
    asyncio.run(open_stream(url, user_agent, handler))


async def open_stream(url: str, user_agent: str, handler: Handler) -> None:
    """The same beside other work of an event loop, all in one thread."""
    listener = _Listener(handler)
    tls: dict[str, Any] = (
        {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if url.startswith("wss:") else {}
    )
    try:
        transport, _ = await ws_connect(
            lambda: listener,
            url,
            websocket_handshake_timeout=HANDSHAKE_SECONDS,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_SECONDS,
            auto_ping_reply_timeout=PING_REPLY_SECONDS,
            max_frame_size=MAX_MESSAGE_BYTES,
            extra_headers={"User-Agent": user_agent},
            max_redirects=2,
            read_buffer_init_size=READ_BUFFER_BYTES,
            socket_factory=dial,
            **tls,
        )
    except (OSError, WSError, TimeoutError, ValueError) as error:
        raise StreamBroken(f"cannot connect: {_named(error)}") from error
    try:
        await _attend(transport, listener, handler)
    finally:
        transport.disconnect(graceful=False)


async def _attend(transport: WSTransport, listener: "_Listener", handler: Handler) -> None:
    ended = asyncio.ensure_future(transport.wait_disconnected())
    last_message = time.monotonic()
    is_quiet = False
    try:
        while not ended.done():
            listener.heard = 0
            if is_quiet:
                await _sip(transport)
            await asyncio.wait({ended}, timeout=TICK_SECONDS)
            transport.underlying_transport.resume_reading()
            if listener.error is not None:
                raise listener.error
            if not handler.tick():
                return
            if listener.heard:
                last_message = time.monotonic()
            elif time.monotonic() - last_message > SILENCE_SECONDS:
                raise StreamSilent(f"nothing was said for {SILENCE_SECONDS:.0f} s")
            is_quiet = listener.heard < QUIET_MESSAGES
    finally:
        ended.cancel()
    if listener.is_unanswered():
        raise StreamHalfOpen(f"our ping was not answered for {PING_REPLY_SECONDS:.0f} s")
    raise StreamBroken(listener.close_reason or "the connection was cut")


async def _sip(transport: WSTransport) -> None:
    """Read what has come, and then nothing for now; if it does not end, go on reading."""
    reading = transport.underlying_transport
    for _ in range(SIP_READS):
        # The event loop finds that there is something in the first round, and reads in the second.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not _has_more(reading):
            reading.pause_reading()
            return


def _has_more(transport: asyncio.Transport) -> bool:
    """Whether bytes wait in the kernel."""
    waiting = array("i", [0])
    try:
        ioctl(transport.get_extra_info("socket").fileno(), FIONREAD, waiting)
    except (OSError, ValueError):
        return False
    return waiting[0] > 0


class _Listener(WSListener):
    """Joins fragments to messages and remembers how it ended."""

    def __init__(self, handler: Handler) -> None:
        self.on_open: Callable[[Line], None] = handler.opened
        self.on_message: Callable[[bytes | str], None] = handler.message
        self.error: BaseException | None = None
        self.close_reason: str | None = None
        # Messages since the last look: a clock that is read for each costs more than it tells.
        self.heard = 0
        self.parts: list[bytes] = []
        self.is_text = False
        self.line: Line | None = None
        # Since when an answer to a ping of picows' own is awaited.
        self.asked_s: float | None = None

    def is_unanswered(self) -> bool:
        """Whether the other side had the time to answer, and did not."""
        waited_s = 0.0 if self.asked_s is None else time.monotonic() - self.asked_s
        return waited_s >= PING_REPLY_SECONDS

    def send_user_specific_ping(self, transport: WSTransport) -> None:
        """Called by picows when nothing came for a while."""
        self.asked_s = time.monotonic()
        transport.send_ping()

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Called by picows when it waits for the answer to a ping of its own."""
        is_ours = self.line is not None and self.line.is_answer(frame)
        is_answer = frame.msg_type == WSMsgType.PONG and not is_ours
        if is_answer:
            self.asked_s = None
        return bool(is_answer)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows before any frame, also of those that come with the handshake."""
        try:
            self.line = Line(transport)
            self.on_open(self.line)
        except BaseException as error:  # noqa: BLE001  it is raised again by _attend
            self._fail(transport, error)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows for each frame; must not raise. Nothing here is done for nothing."""
        # What arrives after an error would be handled out of order.
        if self.error is not None or self.close_reason is not None:
            return
        try:
            if frame.msg_type == _BINARY and frame.fin and frame.payload_size <= MAX_MESSAGE_BYTES:
                self.heard += 1
                self.on_message(frame.get_payload_as_bytes())
            else:
                self._other(transport, frame)
        except BaseException as error:  # noqa: BLE001  it is raised again by _attend
            self._fail(transport, error)

    def _fail(self, transport: WSTransport, error: BaseException) -> None:
        self.error = error
        transport.disconnect(graceful=False)

    def _other(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.TEXT and frame.fin and frame.payload_size <= MAX_MESSAGE_BYTES:
            self.heard += 1
            self.on_message(frame.get_payload_as_bytes().decode("utf-8", "replace"))
        elif kind == WSMsgType.CLOSE:
            # The other side waits for ours before it lets go.
            transport.send_close()
            transport.disconnect()
            self.close_reason = f"closed by the server: {_goodbye(frame.get_payload_as_bytes())}"
        elif kind in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._join(frame)
        elif kind == WSMsgType.PONG and self.line is not None:
            self.line.answer(frame.get_payload_as_bytes())

    def _join(self, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.CONTINUATION:
            self.parts, self.is_text = [], frame.msg_type == WSMsgType.TEXT
        self.parts.append(frame.get_payload_as_bytes())
        if sum(map(len, self.parts)) > MAX_MESSAGE_BYTES:
            raise StreamBroken(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        if frame.fin:
            self.heard += 1
            whole, self.parts = b"".join(self.parts), []
            self.on_message(whole.decode("utf-8", "replace") if self.is_text else whole)


def _goodbye(payload: bytes) -> str:
    """What a close frame says: two bytes of code, and a reason (RFC 6455, section 5.5.1)."""
    if len(payload) < 2:
        return "no code"
    code = int.from_bytes(payload[:2])
    name = _CLOSE_NAMES.get(code, "")
    return " ".join(filter(None, (str(code), name, payload[2:].decode("utf-8", "replace"))))


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
