"""A process that plays a relay or a Jetstream: one websocket, and messages as fast as they go.

It does nothing that a source would be slowed down by: all bytes are made beforehand. A second
connection (`go`) starts the frames, so that a reader can be connected and quiet when the clock
starts. With `per_second` it keeps to that pace.
"""

import base64
import contextlib
import hashlib
import multiprocessing
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.rig import corpus, jetstream, recording
from server.ingest.compression import DICTIONARY_PATH

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK_BYTES = 1 << 20
_PING, _PONG = 0x89, 0x8A
READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Feed:
    """Where a reader finds the frames, and the port that starts them.

    There are so many `messages`, of `size` bytes together, without their websocket heads.
    """

    url: str
    go_port: int
    messages: int
    size: int

    def go(self) -> None:
        """Start the frames for the reader that is connected."""
        socket.create_connection(("127.0.0.1", self.go_port)).close()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fed: the corpus of `count` frames, at a pace (0: none), over TLS or not.

    `certificate`: of localhost, with its key. `kind`: of source, `laps` and `dictionary`: see
    rig/jetstream.py. `is_recorded`: what is told is what rig/recording.py has, in one lap.
    """

    count: int
    per_second: int = 0
    certificate: Path | None = None
    kind: str = "relay"
    laps: int = 1
    is_recorded: bool = False
    dictionary: Path | None = None


@contextlib.contextmanager
def feeding(plan: Plan) -> Iterator[Feed]:
    """Serve reader after reader, each from the first frame, while the block runs."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(plan, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(READY_SECONDS):
            raise RuntimeError("the feeder did not start")
        port, *numbers = here.recv()
        scheme = "wss" if plan.certificate else "ws"
        yield Feed(f"{scheme}://localhost:{port}{jetstream.path_of(plan.kind)}", *numbers)
    finally:
        process.terminate()
        process.join()


def _serve(plan: Plan, pipe: Connection) -> None:
    # In life it is another machine: it must not take the processor from whoever answers readers.
    os.nice(19)
    messages = _messages(plan)
    told, chunks = (len(messages), sum(map(len, messages))), _chunks(plan, messages)
    del messages
    with _listener() as server, _listener() as starter:
        pipe.send((server.getsockname()[1], starter.getsockname()[1], *told))
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            with contextlib.suppress(OSError), _secured(connection, plan.certificate) as reader:
                request = _request(reader)
                if DICTIONARY_PATH.encode() in request:
                    reader.sendall(_dictionary(plan))
                    continue
                _shake_hands(reader, request)
                starter.accept()[0].close()
                turn = threading.Lock()
                sending = threading.Thread(target=_send, args=(reader, chunks, plan, turn))
                sending.start()
                # Until it goes, having read what it wanted.
                _answer_pings(reader, turn)
                sending.join()


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _secured(connection: socket.socket, certificate: Path | None) -> socket.socket:
    if certificate is None:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context.wrap_socket(connection, server_side=True)


def _chunks(plan: Plan, messages: list[bytes]) -> list[bytes]:
    """Websocket messages: many together, or few where there is a pace."""
    chunks: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    few = 2 * _together(plan)
    is_text = plan.kind in ("v1", "v2")
    for message in messages:
        parts += (_head(len(message), is_text=is_text), message)
        size += len(message)
        if (plan.per_second and len(parts) == few) or size > _CHUNK_BYTES:
            chunks.append(b"".join(parts))
            parts, size = [], 0
    return [*chunks, b"".join(parts)]


def _messages(plan: Plan) -> list[bytes]:
    if plan.kind == "relay":
        load = recording.load if plan.is_recorded else corpus.load
        return load(plan.count).frames
    if plan.is_recorded:
        return jetstream.messages(recording.events(plan.count), plan.kind, plan.dictionary)
    events = jetstream.in_laps(plan.count, plan.laps)
    return jetstream.messages(events, plan.kind, plan.dictionary)


def _together(plan: Plan) -> int:
    """How many frames are sent at a time, so that the feeder has time to keep its pace."""
    return max(1, plan.per_second // 500)


def _head(length: int, *, is_text: bool) -> bytes:
    """Of a whole message from a server (RFC 6455, section 5.2)."""
    kind = 0x81 if is_text else 0x82
    if length < 126:
        return bytes((kind, length))
    if length < 1 << 16:
        return struct.pack(">BBH", kind, 126, length)
    return struct.pack(">BBQ", kind, 127, length)


def _request(reader: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        received = reader.recv(4096)
        if not received:
            raise OSError("gone in the middle of a request")
        request += received
    return request


def _dictionary(plan: Plan) -> bytes:
    """The answer to who asks for it; a Jetstream that has none is read without."""
    if plan.dictionary is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    content = plan.dictionary.read_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


def _shake_hands(reader: socket.socket, request: bytes) -> None:
    lines = (line.partition(b":") for line in request.split(b"\r\n"))
    key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
    # The handshake of RFC 6455 is made of SHA-1; it protects nothing.
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    reader.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def _send(reader: socket.socket, chunks: list[bytes], plan: Plan, turn: threading.Lock) -> None:
    began = time.monotonic()
    for number, chunk in enumerate(chunks):
        if plan.per_second:
            due = began + number * _together(plan) / plan.per_second
            time.sleep(max(0.0, due - time.monotonic()))
        with turn:
            try:
                reader.sendall(chunk)
            except OSError:
                return


def _answer_pings(reader: socket.socket, turn: threading.Lock) -> None:
    """Readers give up a server that does not answer. What they send are small, masked frames."""
    data = b""
    while received := reader.recv(4096):
        data += received
        while len(data) > 1 and len(data) >= 6 + (data[1] & 127):
            end = 6 + (data[1] & 127)
            if data[0] == _PING:
                text = bytes(byte ^ data[2 + n % 4] for n, byte in enumerate(data[6:end]))
                with turn:
                    reader.sendall(bytes((_PONG, len(text))) + text)
            data = data[end:]
