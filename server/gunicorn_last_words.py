"""How we end a connection: an answer in JSON, and a goodbye that waits for nobody."""

import json
import logging
import socket
import threading
import time
from contextlib import suppress

log = logging.getLogger(__name__)

# Bytes still read from a client whose connection we close. Closing with unread ones would take our
# last answer away from it.
MAX_LAST_BYTES = 65_536

# A line of the log for all that are refused in this time: those who are too many fill no disk.
TELL_SECONDS = 1.0

_REASONS = {
    400: "Bad Request",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


def last_words(client: socket.socket, status: int, name: str, message: str, *headers: str) -> None:
    """The last words on a connection."""
    body = json.dumps({"error": name, "message": message}).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        *headers,
    )
    with suppress(OSError):
        # Whoever reads too slowly for these few bytes does not get them.
        client.setblocking(False)
        client.send("\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body)


def hang_up(client: socket.socket) -> None:
    """End a connection, and wait for nobody: what was not read by now is given up."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.setblocking(False)
        for _ in range(MAX_LAST_BYTES // 4096):
            if not socket.socket.recv(client, 4096):
                break
    with suppress(OSError):
        client.shutdown(socket.SHUT_RD)


class Refusals:
    """Those of a process for want of room, in the log. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold = 0
        self._told_s = float("-inf")

    def tell(self, why: str) -> None:
        """One more was refused. The first is told at once; `why` is of the last."""
        with self._lock:
            self._untold += 1
            now_s = time.monotonic()
            if now_s < self._told_s + TELL_SECONDS:
                return
            count, self._untold, self._told_s = self._untold, 0, now_s
        log.warning("too busy: requests refused count=%d: %s", count, why)
