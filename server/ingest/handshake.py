"""How a websocket is opened: the request, and what answers it (RFC 6455, section 4). Pure.

A server that refuses says so with a status, and may say when to come back: both are in the
HandshakeRefused that `check` raises.
"""

import base64
import re
from collections.abc import Mapping
from hashlib import sha1
from urllib.parse import SplitResult

# They have a few hundred.
MAX_HEAD_BYTES = 16 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_SWITCHING = 101
_PORTS = {"ws": 80, "wss": 443}


class HandshakeRefused(Exception):
    """No websocket. `status`: of HTTP, None where the answer was none; names of `headers` small."""

    def __init__(
        self, reason: str, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}


def port_of(url: SplitResult) -> int:
    """The port of a ws:// or wss:// URL."""
    return url.port or _PORTS[url.scheme]


def new_key(random: bytes) -> bytes:
    """What the server has to answer to, of 16 bytes that nobody can guess."""
    return base64.b64encode(random)


def request(url: SplitResult, key: bytes, user_agent: str) -> bytes:
    """What a client says first."""
    host = url.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if port_of(url) != _PORTS[url.scheme]:
        host = f"{host}:{port_of(url)}"
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
        f"User-Agent: {user_agent}",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"


def check(head: bytes, key: bytes) -> None:
    """See that the answer with this head opens a websocket. Raises HandshakeRefused."""
    first, *rest = head.split(b"\r\n")
    line = _STATUS_LINE.fullmatch(first)
    if line is None:
        raise HandshakeRefused("the answer is not HTTP")
    headers = dict(_header(one) for one in rest)
    status = int(line[1])
    if status != _SWITCHING:
        raise HandshakeRefused(f"status {status}", status, headers)
    proof = base64.b64encode(sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if headers.get("upgrade", "").lower() != "websocket":
        raise HandshakeRefused("the server switched to another protocol")
    if "upgrade" not in headers.get("connection", "").lower():
        raise HandshakeRefused("the server did not say that it switched")
    if headers.get("sec-websocket-accept") != proof:
        raise HandshakeRefused("the answer is not to our key")
    if "sec-websocket-extensions" in headers or "sec-websocket-protocol" in headers:
        raise HandshakeRefused("the server wants what we did not ask for")


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()
