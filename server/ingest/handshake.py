"""How a websocket is opened: the request, and what answers it (RFC 6455, section 4). Pure.

A server that refuses says so with a status, may say when to come back, and in what it says beside
that may name the error as XRPC does: all is in the HandshakeRefused that `check` raises, and that
`with_body` completes. Of a body, MAX_BODY_BYTES are read.
"""

import base64
import json
import re
from collections.abc import Mapping
from hashlib import sha1
from urllib.parse import SplitResult

# They have a few hundred.
MAX_HEAD_BYTES = 16 * 1024
# An error in words. A page for people may be longer, and is of no use here.
MAX_BODY_BYTES = 4 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_SWITCHING = 101
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")
_LAST_CHUNK = b"0\r\n\r\n"
_PORTS = {"ws": 80, "wss": 443}


class HandshakeRefused(Exception):
    """No websocket. `status`: of HTTP, None where the answer was none; names of `headers` small.

    `name` is that of the error, if the body has one.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}
        self.name = name

    def has_body(self) -> bool:
        """Whether the server may say more, after the head."""
        return self.status is not None and self.status >= 400

    def is_whole(self, body: bytes) -> bool:
        """Whether this is the body, or enough of it. Without a length, its end is that of all."""
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and len(length) < 9:
            return len(body) >= min(int(length), MAX_BODY_BYTES)
        return len(body) >= MAX_BODY_BYTES or (self._is_chunked() and body.endswith(_LAST_CHUNK))

    def with_body(self, body: bytes) -> "HandshakeRefused":
        """The same with what the body says, as far as it is an error of XRPC."""
        try:
            body = body[:MAX_BODY_BYTES]
            told = json.loads(_joined(body) if self._is_chunked() else body)
        except (ValueError, RecursionError):
            return self
        name = told.get("error") if isinstance(told, dict) else None
        if not isinstance(name, str):
            return self
        reason = f"{self}: {name}: {told.get('message') or 'no message'}"
        return HandshakeRefused(reason, self.status, self.headers, name)

    def _is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


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


def _joined(body: bytes) -> bytes:
    """The content of a body in chunks (RFC 9112, section 7.1), as far as it is here."""
    content, place = b"", 0
    while (size := _CHUNK.match(body, place)) is not None:
        end = size.end() + int(size[1], 16)
        content += body[size.end() : end]
        place = end + len(b"\r\n")
    return content


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()
