"""Why a stream ended, in one word to count and to look for; and how long to stay away."""

import socket
import ssl

from picows import WSHandshakeError, WSInvalidStatusError

from server.core.errors import StreamBroken, StreamSilent
from server.ingest.relay import SourceError

# However long a server asks us to stay away, we look again after this.
LONGEST_WISH_SECONDS = 120.0

_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (TimeoutError, "timeout"),
    (WSHandshakeError, "handshake"),
    (ConnectionRefusedError, "refused"),
    (OSError, "network"),
)


def kind_of(broken: StreamBroken) -> str:
    """The word for it.

    No connection came about: dns, tls, timeout, refused, network, handshake, http-STATUS. It ended:
    silent, closed, cut (the line broke, or nobody answered our pings), or the name of the source's
    own error, e.g. ConsumerTooSlow.
    """
    if isinstance(broken, SourceError):
        return broken.name
    if isinstance(broken, StreamSilent):
        return "silent"
    status = status_of(broken)
    if status is not None:
        return f"http-{status}"
    for cause, kind in _CAUSES:
        if isinstance(broken.__cause__, cause):
            return kind
    return "closed" if str(broken).startswith("closed by the server") else "cut"


def status_of(broken: StreamBroken) -> int | None:
    """The HTTP status with which the handshake was refused."""
    cause = broken.__cause__
    if isinstance(cause, WSInvalidStatusError) and cause.response is not None:
        return int(cause.response.status)
    return None


def wish_s(broken: StreamBroken) -> float:
    """How long the server wants us to stay away (Retry-After in seconds), as far as we heed it."""
    cause = broken.__cause__
    if not isinstance(cause, WSHandshakeError) or cause.response is None:
        return 0.0
    text = cause.response.headers.get("Retry-After", "")
    is_number = text.isascii() and text.isdigit() and len(text) < 9
    return min(float(text), LONGEST_WISH_SECONDS) if is_number else 0.0
