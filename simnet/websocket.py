"""The server's end of one WebSocket, on a socket whose HTTP request has been read.

Sends; what the client says is answered as the protocol demands (pong, close). Its texts go to who
wants to hear them, each before a ping that follows it is answered.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

# The relay's library splits what does not fit its write buffer; readers must be able to join.
FRAGMENT_BYTES = 10_000
# No client of ours has anything long to say.
MAX_INCOMING_BYTES = 10_000_000
_CLOSE_PATIENCE_S = 1.0

# Takes a text of the client's; what comes back is why the connection has to end (code, reason).
Hear = Callable[[str], tuple[int, str] | None]


def handshake_headers(client_key: str) -> dict[str, str]:
    """What the 101 answer carries. No extension is ever agreed to."""
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key(client_key),
    }


def serialize(payload: bytes | str) -> bytes:
    """The bytes on the line of one message, in fragments if it is long."""
    if isinstance(payload, str):
        return Frame(Opcode.TEXT, payload.encode()).serialize(mask=False)
    pieces = range(0, len(payload), FRAGMENT_BYTES) if payload else range(1)
    out = []
    for start in pieces:
        opcode = Opcode.BINARY if start == 0 else Opcode.CONT
        last = start + FRAGMENT_BYTES >= len(payload)
        piece = payload[start : start + FRAGMENT_BYTES]
        out.append(Frame(opcode, piece, fin=last).serialize(mask=False))
    return b"".join(out)


class WebSocket:
    """One connection. `on_end` is called once, from the reading thread, when it is over."""

    def __init__(
        self, sock: socket.socket, name: str, on_end: Callable[[], None], hear: Hear | None = None
    ) -> None:
        self.closed = threading.Event()
        self._sock = sock
        self._on_end = on_end
        self._hear = hear
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_INCOMING_BYTES)
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name=f"{name}-read", daemon=True)
        self._reader.start()

    def send(self, serialized: Iterable[bytes]) -> None:
        """Write messages that `serialize` made; quietly nothing once the connection is over."""
        try:
            with self._sending:
                self._sock.sendall(b"".join(serialized))
        except OSError:
            self.closed.set()

    def ping(self) -> None:
        """Keep an idle line awake."""
        self.send([Frame(Opcode.PING, b"").serialize(mask=False)])

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and wait a moment for the answer."""
        with contextlib.suppress(OSError), self._sending:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
                self._flush()
        self.closed.wait(_CLOSE_PATIENCE_S)
        self._shut()
        self._reader.join()

    def abort(self) -> None:
        """Cut the line; the client sees a reset, not a goodbye. May be called by any thread."""
        with contextlib.suppress(OSError):
            # With a linger time of zero the kernel sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._shut()

    def _shut(self) -> None:
        self.closed.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _flush(self) -> None:
        for piece in self._protocol.data_to_send():
            self._sock.sendall(piece)

    def _listen(self) -> tuple[int, str] | None:
        """Pass on what the client said; why it has to go, if it has to."""
        wrong = None
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode is not Opcode.TEXT:
                continue
            if self._hear is not None and wrong is None:
                wrong = self._hear(bytes(event.data).decode())
        return wrong

    def _read(self) -> None:
        try:
            while self._protocol.close_rcvd is None and (data := self._sock.recv(65_536)):
                with self._sending:
                    self._protocol.receive_data(data)
                # Who hears may take a while, and others send meanwhile.
                wrong = self._listen()
                with self._sending:
                    if wrong is not None and self._protocol.state is State.OPEN:
                        self._protocol.send_close(*wrong)
                    self._flush()
        except OSError:
            pass  # The line is dead, which is all there is to know.
        self.closed.set()
        self._on_end()
