"""gunicorn's threaded worker, with the manners that a server on the open internet needs.

Promises. What gunicorn answers by itself is an XRPC error in JSON, in our own words, and tells
nothing about what we run on. A client that drips its request is hung up on; one that does not hang
up holds nobody (gunicorn would wait for it in the thread that accepts all connections). A request
that has waited for a thread until its sender will give up is refused at once, so that an overload
ends as soon as its cause does. Requests that cannot be read are not logged as failures of ours.
What was said and not read is in nobody's memory when its connection has ended. A short answer is
one packet. Knows no method and no feed. How connections come to threads is gunicorn's way, or on
Linux gunicorn_epoll.py's.
"""

import logging
import socket
import struct
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn.http import errors, wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.core.garbage import collect_less
from server.gunicorn_last_words import Refusals, hang_up, last_words

log = logging.getLogger(__name__)

# Seconds that a request may wait for a thread. The AppView gives up after 5 s, and a first page may
# take half of that.
MAX_WAIT_SECONDS = 2.0
RETRY_SECONDS = 5

# Where requests are refused. Platforms ask /health whether we are alive: too busy is not dead.
REFUSED_PATHS = "/xrpc/app.bsky."

# Seconds in which a request has to be here as a whole, head and body, once a thread has begun to
# read. A single read is bounded by CLIENT_SECONDS: a client can take that much longer.
MAX_READ_SECONDS = 5.0

# How long one read from a client, or one write to it, may take. gunicorn's threads have no limit of
# their own: clients that say half a sentence, or do not listen, would hold them all.
CLIENT_SECONDS = 5
# Bytes of an answer that the kernel keeps for a client that is slow to take them, or never does.
# None of our answers is longer, so nobody's thread waits for it.
MAX_UNSENT_BYTES = 200_000

# The first line that fits is taken. The names are those that Flask's answers have, too.
_ANSWERS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (
        errors.LimitRequestLine,
        414,
        "RequestURITooLong",
        "the request line is longer than 8190 bytes",
    ),
    (
        errors.LimitRequestHeaders,
        431,
        "RequestHeaderFieldsTooLarge",
        "the request has more than 64 headers, or one of more than 8190 bytes",
    ),
    (errors.ExpectationFailed, 417, "ExpectationFailed", "only 100-continue can be expected"),
    (
        errors.UnsupportedTransferCoding,
        501,
        "NotImplemented",
        "chunked is the only transfer coding known here",
    ),
    (errors.ParseException, 400, "InvalidRequest", "the request is not proper HTTP/1.1"),
)
# Of the same family, but faults of ours: a header that the application wrote, a wrong setting.
_OURS = (
    errors.InvalidResponseHeader,
    errors.InvalidResponseHeaderName,
    errors.ConfigurationProblem,
)


def set_limits(server: Any) -> None:
    """Set the limits on gunicorn's listening sockets: connections inherit them (on Linux)."""
    limit = struct.pack("ll", CLIENT_SECONDS, 0)
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, limit)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_UNSENT_BYTES)


class Response(wsgi.Response):  # type: ignore[misc]
    """A response that does not say which server wrote it, and is one packet if it is short."""

    headers_sent: bool
    _unsent_head = b""

    def default_headers(self) -> list[str]:
        """As gunicorn's, but for one; the date is put in words once a second."""
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Date: {_in_words(int(time.time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def can_sendfile(self) -> bool:
        """No: what is sent past us would come before its head."""
        return False

    def send_headers(self) -> None:
        """Keep the head until there is something to send with it."""
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{k}: {v}\r\n" for k, v in self.headers), "\r\n"]
        self._unsent_head = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            self._send_head()
            super()._emit_body(data)
        else:
            self._send_head(data)

    def close(self) -> None:
        """Send what is still to be sent."""
        self.send_headers()
        self._send_head()
        super().close()

    def _send_head(self, data: bytes = b"") -> None:
        head, self._unsent_head = self._unsent_head, b""
        if head or data:
            self.sock.sendall(head + data)


class ImpatientSocket(socket.socket):
    """A client's connection, which has until `deadline` to say what it wants."""

    deadline = float("inf")
    is_answered = False

    def recv(self, *args: Any) -> bytes:
        """Read. Every single read may take the time that the socket's own limit allows."""
        if time.monotonic() > self.deadline:
            raise BlockingIOError("the request did not come to its end in time")
        return super().recv(*args)

    def setblocking(self, flag: bool) -> None:
        """Gunicorn says it for each request; to tell the kernel gives the interpreter away."""
        if self.getblocking() is not flag:
            super().setblocking(flag)

    def settimeout(self, value: float | None) -> None:
        """Gunicorn says this twice a request, and it costs as much."""
        if self.gettimeout() != value:
            super().settimeout(value)


class Worker(ThreadWorker):  # type: ignore[misc]
    """One process that answers requests."""

    def init_process(self) -> None:
        """Change what gunicorn has no setting for, in this process."""
        wsgi.Response = Response
        self.refusals = Refusals()
        # Some twenty settings are asked for at each request, each through two objects.
        settings = self.cfg.settings.items()
        self.cfg.__dict__.update({name: setting.get() for name, setting in settings})
        self.log.error_log.addFilter(_is_worth_a_line)
        super().init_process()

    def load_wsgi(self) -> None:
        """The application is there from now on, and will remember many objects."""
        super().load_wsgi()
        collect_less()

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection with something to read to the threads."""
        if not isinstance(conn.sock, ImpatientSocket):
            conn.sock = ImpatientSocket(fileno=conn.sock.detach())
        conn.queued_s = time.monotonic()
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Answer one request, in a thread; whether the connection goes on."""
        conn.waited_s = self.waited_s(conn)
        conn.sock.deadline = time.monotonic() + MAX_READ_SECONDS
        conn.sock.is_answered = False
        goes_on: Any = False
        try:
            goes_on = super().handle(conn)
        finally:
            _untie(conn)
            if goes_on is False:
                _drop_unread(conn)
                hang_up(conn.sock)
        return goes_on

    def waited_s(self, conn: TConn) -> float:
        """Seconds for which what a connection has to say has waited for a thread."""
        return time.monotonic() - float(conn.queued_s)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Answer a request whose head has been read."""
        if conn.waited_s > MAX_WAIT_SECONDS and req.path.startswith(REFUSED_PATHS):
            message = "too many people are here at once: try again in a few seconds"
            self.refuse(conn, message, f"waited {conn.waited_s:.1f} s for a thread")
            return False
        goes_on = bool(super().handle_request(req, conn))
        conn.sock.is_answered = True
        return goes_on

    def refuse(self, conn: TConn, message: str, why: str) -> None:
        """Say that there is no room now. An application that counts its answers counts it too."""
        status, name = 503, "NotEnoughResources"
        self.refusals.tell(why)
        if count := getattr(self.wsgi, "count_refusal", None):
            count(status, name)
        last_words(conn.sock, status, name, message, f"Retry-After: {RETRY_SECONDS}")

    def handle_error(self, req: Any, client: ImpatientSocket, addr: Any, exc: Exception) -> None:
        """Answer what never reached the application, or broke on the way."""
        del req, addr
        if client.is_answered:
            # What came after the request is of no use; a second answer would be one too many.
            return
        for kind, status, name, message in _ANSWERS:
            if isinstance(exc, kind) and not isinstance(exc, _OURS):
                log.info("request refused unread status=%d kind=%s", status, type(exc).__name__)
                last_words(client, status, name, message)
                return
        log.error("unexpected error", exc_info=exc)
        last_words(client, 500, "InternalServerError", "something went wrong here")


def _untie(conn: TConn) -> None:
    """Let a request with a body in chunks go with whoever uses it last.

    gunicorn's refers to itself, with all that was not read of it, and Python looks for such things
    rarely here (core/garbage.py).
    """
    request = getattr(conn.parser, "mesg", None)
    reader = getattr(getattr(request, "body", None), "reader", None)
    if isinstance(reader, ChunkedReader):
        reader.parser = reader.req = None


def _drop_unread(conn: TConn) -> None:
    """Forget what was not read: whatever the application left in a circle may still refer to it."""
    if conn.parser is not None:
        conn.parser.unreader.take_buffered()


@lru_cache(maxsize=1)
def _in_words(now_s: int) -> str:
    return formatdate(now_s, usegmt=True)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not a client that fell silent in the middle of a request: that is its affair."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))
