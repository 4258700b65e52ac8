"""A small threaded HTTP server that can hang up, stall and become a WebSocket. Knows no routes.

Faults common to all our servers happen here, before the handler is asked.
"""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from simnet.faults import Faults
from simnet.websocket import Hear, WebSocket, handshake_headers

log = logging.getLogger(__name__)

# Larger than any blob the lexicons allow.
MAX_BODY_BYTES = 6_000_000
_HUGE_CHUNK = b"[" * 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for. `query` keeps the first of several values, `lists` all of them."""

    method: str
    path: str
    query: dict[str, str]
    lists: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def context(self) -> dict[str, object]:
        """What the `where` of a fault may name."""
        return {
            "method": self.path.removeprefix("/xrpc/"),
            "repo": self.query.get("repo") or self.query.get("did"),
            "collection": self.query.get("collection"),
        }


@dataclass(slots=True)
class Reply:
    """An answer; dicts and lists become JSON."""

    body: dict[str, Any] | list[Any] | bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An answer that turns the connection into a WebSocket and runs it to its end.

    `hear`: who wants to know what the client says.
    """

    run: Callable[[WebSocket], None]
    on_end: Callable[[], None]
    hear: Hear | None = None


def xrpc_error(status: int, name: str, message: str, **headers: str) -> Reply:
    """The error body of every XRPC server."""
    return Reply({"error": name, "message": message}, status, headers)


class LoopbackServer(HTTPServer):
    """Serves `handle` on a free port of 127.0.0.1, one named thread a connection."""

    request_queue_size = 256

    def __init__(
        self, name: str, handle: Callable[[Request], Reply | Upgrade], faults: Faults, port: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.name = name
        self.handle = handle
        self.faults = faults
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), name=f"simnet-{name}", daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The origin, as a DID document names it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Close the door, cut what is open, wait for the threads."""
        self.stopping.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._lock:
            left = list(self._open.items())
        for sock, _ in left:
            _shut(sock)
        for _, thread in left:
            thread.join(5)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own."""
        thread = threading.Thread(
            target=self._converse,
            args=(request, client_address),
            name=f"simnet-{self.name}-{client_address[1]}",
            daemon=True,
        )
        with self._lock:
            self._open[request] = thread
        thread.start()

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as broken:
            log.debug("connection ended server=%s: %s", self.name, broken)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


class _Connection(BaseHTTPRequestHandler):
    """One client connection: requests one after another, until an upgrade or the end."""

    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""

    def _serve(self) -> None:
        request = self._parse()
        if request is None or self._misbehave(request):
            self.close_connection = True
            return
        answer = self.server.handle(request)
        if isinstance(answer, Upgrade):
            self._upgrade(answer)
        else:
            self._answer(answer)

    def _parse(self) -> Request | None:
        length = int(self.headers.get("content-length") or 0)
        if length > MAX_BODY_BYTES:
            self._answer(xrpc_error(413, "PayloadTooLarge", "request entity too large"))
            return None
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        return Request(
            method=self.command,
            path=unquote(address.path),
            query={key: values[0] for key, values in query.items()},
            lists=query,
            headers={key.lower(): value for key, value in self.headers.items()},
            body=self.rfile.read(length),
        )

    def _answer(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _upgrade(self, upgrade: Upgrade) -> None:
        self.close_connection = True
        key = self.headers.get("sec-websocket-key")
        if key is None:
            self._answer(xrpc_error(426, "UpgradeRequired", "this is a WebSocket"))
            return
        self.send_response(101)
        for name, value in handshake_headers(key).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        name = threading.current_thread().name
        upgrade.run(WebSocket(self.connection, name, upgrade.on_end, upgrade.hear))

    def _misbehave(self, request: Request) -> bool:
        """Play an armed fault; True if the connection is to end without the true answer."""
        take, context = self.server.faults.take, {"host": self.server.name, **request.context}
        if slow := take("http-slow", **context):
            self.server.stopping.wait(slow["delay_s"])
        if (hang := take("http-hang", **context)) is not None:
            self.server.stopping.wait(hang.get("delay_s"))
            return True
        if take("http-drop", **context) is not None:
            return True
        if (huge := take("http-huge", **context)) is not None:
            self._promise(huge.get("size", 50_000_000), _HUGE_CHUNK)
            return True
        if take("http-cut-body", **context) is not None:
            self._promise(1000, b'{"records": [', times=1)
            return True
        for name, reply in _FALSE_ANSWERS.items():
            if (settings := take(name, **context)) is not None:
                self._answer(reply(settings))
                return True
        return False

    def _promise(self, size: int, chunk: bytes, times: int | None = None) -> None:
        """Announce a body of `size` bytes and send `chunk` until it is full, or `times` times."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        # The client hangs up when it has had enough.
        with contextlib.suppress(OSError):
            for _ in range(size // len(chunk) if times is None else times):
                self.wfile.write(chunk)
            self.wfile.flush()


def _too_many(settings: dict[str, Any]) -> Reply:
    wait = str(settings.get("retry_after_s", 1))
    reply = xrpc_error(429, "RateLimitExceeded", "Rate Limit Exceeded")
    reply.headers["Retry-After"] = wait
    return reply


_FALSE_ANSWERS: dict[str, Callable[[dict[str, Any]], Reply]] = {
    "http-500": lambda _: xrpc_error(500, "InternalServerError", "Internal Server Error"),
    "http-503-html": lambda _: Reply(b"<h1>503</h1>", 503, content_type="text/html"),
    "http-404-html": lambda _: Reply(b"<h1>404</h1>", 404, content_type="text/html"),
    "http-429": _too_many,
    "http-garbage": lambda _: Reply(b'{"records": [{"uri": "at://'),
}


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
