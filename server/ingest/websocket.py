"""One websocket connection, read as fast as it comes. Knows nothing of what the messages mean.

Promises. Every message is handed over whole and in order, in the thread that called, many at a time
(frames.py). Nothing is queued here: until the caller has taken in what was read, nothing more is
read, so a slow database slows the sender down through TCP and costs no memory. The caller is called
about every TICK_SECONDS, messages or not: what takes longer to take in than a moment is taken in by
turns with that (turns.py). A message of a quiet stream may wait for TICK_SECONDS.
The end is always StreamBroken with a reason, whatever it was: no connection in good time
(dialling.py, HANDSHAKE_SECONDS for TLS and as many for HTTP), a clean close, an error, a socket
that is half open (pings unanswered), silence, a message too large, bytes that are no websocket's.
What the caller raises, comes out. The caller may say something, too, and is told when the other
side has read it; a server that does not read what we say, pongs among it, is left.

Our own code, because a library hands over one message after the other, and each costs as much as
finding out that it is about nobody we know (docs/decisions.md).
"""

import asyncio
import time
from array import array
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Protocol

from server.core.errors import StreamBroken, StreamHalfOpen, StreamSilent
from server.ingest.connection import CONNECT_ERRORS, Connection, Listener, connect, named
from server.ingest.dialling import unless
from server.ingest.frames import PING

# How often the caller gets to look at its clock and its stop event.
TICK_SECONDS = 0.1
# With fewer messages than this in a tick, what comes is read once a tick: to wake up for each of a
# few hundred messages a second costs ten times as much as reading them. A buffer that is not empty
# after so many reads is a sign that there is more to do than that.
QUIET_MESSAGES = 1000
SIP_READS = 20
# A quiet socket is asked whether it lives; one that does not answer is given up.
PING_IDLE_SECONDS = 20.0
PING_REPLY_SECONDS = 20.0
# A server that answers pings and says nothing may have lost us. To connect again costs nothing.
SILENCE_SECONDS = 300.0


class Handler(Listener, Protocol):
    """Who reads a stream. Each method may raise, which ends the connection."""

    def tick(self) -> bool:
        """Called often; False ends the connection."""


def read_stream(url: str, user_agent: str, handler: Handler) -> None:
    """Read `url` until the handler has enough (then return) or the stream ends (StreamBroken)."""
    asyncio.run(open_stream(url, user_agent, handler))


def _never() -> bool:
    return False


async def open_stream(
    url: str, user_agent: str, handler: Handler, is_over: Callable[[], bool] = _never
) -> None:
    """The same beside other work of an event loop, all in one thread.

    Returns as well if it `is_over` before the connection stands; from then on the handler says so.
    """
    try:
        connection = await unless(is_over, connect(url, user_agent, handler))
    except CONNECT_ERRORS as error:
        raise StreamBroken(f"cannot connect: {named(error)}") from error
    if connection is None:
        return
    try:
        await _attend(connection, handler)
    finally:
        connection.leave()


async def _attend(connection: Connection, handler: Handler) -> None:
    turns, pulse = connection.turns, _Pulse(connection)
    is_quiet = False
    while not connection.ended.done():
        if is_quiet and not turns.is_behind:
            await _sip(connection.transport)
        await asyncio.wait({connection.ended}, timeout=TICK_SECONDS)
        turns.listen()
        if connection.error is not None:
            raise connection.error
        if not handler.tick():
            return
        is_quiet = pulse.feel(time.monotonic()) < QUIET_MESSAGES
    if connection.error is not None:
        raise connection.error
    raise StreamBroken(connection.goodbye or "")


class _Pulse:
    """Whether the other side lives, and says something."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.last_message = self.last_sign = time.monotonic()
        # Since when an answer to a ping is awaited.
        self.asked: float | None = None

    def feel(self, now: float) -> int:
        """How many messages came since the last time. Raises StreamBroken when it is dead."""
        heard, self.connection.heard = self.connection.heard, 0
        # Of whom there is something left to take in we ask for nothing: it is we who do not listen.
        is_behind = self.connection.turns.is_behind
        if heard or is_behind:
            self.last_message = now
        elif now - self.last_message > SILENCE_SECONDS:
            raise StreamSilent(f"nothing was said for {SILENCE_SECONDS:.0f} s")
        if self.connection.take_sign() or is_behind:
            self.last_sign, self.asked = now, None
        elif self.asked is None:
            if now - self.last_sign >= PING_IDLE_SECONDS:
                self.asked = now
                self.connection.line.send(PING, b"")
        elif now - self.asked >= PING_REPLY_SECONDS:
            raise StreamHalfOpen(f"our ping was not answered for {PING_REPLY_SECONDS:.0f} s")
        return heard


async def _sip(transport: asyncio.Transport) -> None:
    """Read what has come, and then nothing for now; if it does not end, go on reading."""
    until = time.monotonic() + TICK_SECONDS
    for _ in range(SIP_READS):
        # The event loop finds that there is something in the first round, and reads in the second.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not _has_more(transport):
            transport.pause_reading()
            return
        if time.monotonic() > until:
            return


def _has_more(transport: asyncio.Transport) -> bool:
    """Whether bytes wait in the kernel."""
    waiting, sock = array("i", [0]), transport.get_extra_info("socket")
    if sock is None:
        # Over TLS, a connection that was lost has none.
        return False
    try:
        ioctl(sock.fileno(), FIONREAD, waiting)
    except (OSError, ValueError):
        return False
    return waiting[0] > 0
