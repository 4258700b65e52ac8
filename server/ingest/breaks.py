"""Why a stream ended, in one word to count and to look for; and how long to stay away.

The word is one of KINDS, whatever a server says: it is a label of a metric. What the server said is
in the log, in one line.
"""

import socket
import ssl

from server.core.errors import StreamBroken, StreamHalfOpen, StreamSilent, StreamUnreadable
from server.ingest.connection import CLOSED, CUT
from server.ingest.handshake import HandshakeRefused
from server.ingest.relay import SourceError

# However long a server asks us to stay away, we look again after this.
LONGEST_WISH_SECONDS = 120.0
# What a server says may be long, and have lines of its own.
MAX_TOLD = 300

_OURS: tuple[tuple[type[StreamBroken], str], ...] = (
    (StreamSilent, "silent"),
    (StreamHalfOpen, "half-open"),
    (StreamUnreadable, "unreadable"),
)
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    # asyncio's word for a TLS handshake that takes too long.
    (ConnectionAbortedError, "tls"),
    (TimeoutError, "timeout"),
    (HandshakeRefused, "handshake"),
    (ConnectionRefusedError, "refused"),
    (OSError, "network"),
    # We are sent to what is no address.
    (ValueError, "handshake"),
)
_STATUSES = (301, 302, 307, 308, 400, 401, 403, 404, 429, 500, 502, 503, 504)
# The names of errors that the protocols know.
_SOURCE_ERRORS = ("ConsumerTooSlow", "FutureCursor", "CursorTooOld")
# Those of which the same cursor would bring no more, and what the hole is called then.
_USELESS_CURSORS = {
    "FutureCursor": "future cursor",
    "CursorTooOld": "cursor too old",
    "unreadable": "nothing that it says can be read",
}
_NO_CONNECTION = ("dns", "tls", "timeout", "refused", "network", "handshake", "http-other")
_ENDED = ("silent", "half-open", "unreadable", "closed", "cut", "protocol", "error")

KINDS = frozenset(
    (*_NO_CONNECTION, *(f"http-{status}" for status in _STATUSES), *_ENDED, *_SOURCE_ERRORS)
)


def kind_of(broken: StreamBroken) -> str:
    """The word for it, one of KINDS.

    No connection came about: dns, tls, timeout, refused, network, handshake, http-STATUS. It ended:
    silent, half-open (nobody answers our pings), unreadable, closed, cut, protocol (we left,
    because of what it sends, or does not read), or the name of the source's own error, e.g.
    ConsumerTooSlow; error, if the protocols do not know that name. A handshake may be refused by
    such a name as well.
    """
    if isinstance(broken, SourceError):
        return broken.name if broken.name in _SOURCE_ERRORS else "error"
    for ours, kind in _OURS:
        if isinstance(broken, ours):
            return kind
    if isinstance(broken.__cause__, HandshakeRefused) and broken.__cause__.status is not None:
        return _kind_of_refusal(broken.__cause__)
    for cause, kind in _CAUSES:
        if isinstance(broken.__cause__, cause):
            return kind
    return _kind_of_end(str(broken))


def _kind_of_refusal(refused: HandshakeRefused) -> str:
    # A bad request is what the protocols make of their errors.
    if refused.status == 400 and refused.name in _SOURCE_ERRORS:
        return refused.name
    return f"http-{refused.status}" if refused.status in _STATUSES else "http-other"


def _kind_of_end(told: str) -> str:
    if told.startswith(CLOSED):
        return next((name for name in _SOURCE_ERRORS if name in told.split()), "closed")
    return "cut" if told.startswith(CUT) else "protocol"


def told(broken: StreamBroken) -> str:
    """What is known of it, for the log: one line."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(broken)[:MAX_TOLD])
    return " ".join(text.split())


def useless_cursor(broken: StreamBroken) -> str | None:
    """What the ledger says was wrong with our cursor, if the source does not go on from there."""
    return _USELESS_CURSORS.get(kind_of(broken))


def wish_s(broken: StreamBroken) -> float:
    """How long the server wants us to stay away (Retry-After in seconds), as far as we heed it."""
    cause = broken.__cause__
    if not isinstance(cause, HandshakeRefused):
        return 0.0
    text = cause.headers.get("retry-after", "")
    is_number = text.isascii() and text.isdigit() and len(text) < 9
    return min(float(text), LONGEST_WISH_SECONDS) if is_number else 0.0
