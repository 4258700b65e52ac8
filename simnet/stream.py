"""One host's subscribeRepos: numbers events, takes readers in, replays, and misbehaves when told.

A PDS and a relay differ in how they treat a cursor; what goes into the stream is their business.
"""

import threading
from collections.abc import Callable
from typing import Any, Literal, Protocol

from simnet import frames
from simnet.event_log import EventLog, Window
from simnet.faults import Faults
from simnet.http_server import Reply, Request, Upgrade, xrpc_error
from simnet.repo import Commit
from simnet.websocket import WebSocket, serialize

PATH = "/xrpc/com.atproto.sync.subscribeRepos"
# Events written in one go: large enough for a quick replay, small enough to notice a stop.
_BATCH = 200
_IDLE_PING_S = 30.0

Farewell = Literal["close", "reset", "too-slow"]


class Listener(Protocol):
    """A client that is told the events in its own words, and has a say in it."""

    def wire(self, event: Any) -> bytes | None:
        """What goes over the line for an event of the log; None: nothing."""

    def hear(self, text: str) -> tuple[int, str] | None:
        """What it said; why it has to go (code, reason), if it has to."""

    def may_begin(self) -> bool:
        """Whether it wants to be told anything yet."""


class _Reader:
    """One connection: where it stands, and what it is to be told out of order."""

    def __init__(self, socket: WebSocket, position: int, listener: Listener | None = None) -> None:
        self.socket = socket
        self.position = position
        self.listener = listener
        self.extra: list[bytes] = []
        self.farewell: Farewell | None = None


class Stream:
    """Safe from any thread; one condition guards the log and the readers."""

    def __init__(
        self,
        host: str,
        clock: Callable[[], int],
        faults: Faults,
        *,
        announces_cursor_trouble: bool,
        first_seq: int = 1,
        window: Window | None = None,
    ) -> None:
        self.host = host
        # A PDS says OutdatedCursor and FutureCursor; the relays in use say nothing.
        self.announces_cursor_trouble = announces_cursor_trouble
        self.next_seq = first_seq
        # How many events there ever were; numbers may start anew.
        self.events = 0
        self.log = EventLog(window or Window())
        self._clock = clock
        self._faults = faults
        self._changed = threading.Condition()
        self._readers: list[_Reader] = []
        self._stalled = False
        self._stopping = False

    @property
    def last_seq(self) -> int:
        """The newest number given away."""
        return self.next_seq - 1

    @property
    def readers(self) -> int:
        """How many connections are open."""
        with self._changed:
            return len(self._readers)

    def append(self, kind: str, body: frames.Body, commit: Commit | None = None) -> int:
        """Number an event and send it to every reader; an armed fault may spoil it."""
        with self._changed:
            repo = body.get("repo") or body.get("did")
            context: dict[str, object] = {"host": self.host, "kind": kind, "repo": repo}
            if commit is not None:
                body = self._spoil(body, commit, context)
            seq = self._number()
            wire = serialize(frames.message(kind, {**body, "seq": seq}))
            if self._faults.take("stream-drop", **context) is None:
                self._add(seq, wire)
            if self._faults.take("stream-duplicate", **context) is not None:
                self._add(seq, wire)
            return seq

    def inject(self, what: str, *, stored: bool = True) -> int:
        """Put a strange frame into the stream: one of frames.STRANGE.

        A stored one has a number and meets everybody who replays it; else only who is here now
        meets it. Returns the newest number.
        """
        with self._changed:
            if stored:
                seq = self._number()
                self._add(seq, serialize(frames.strange(what, seq)))
            else:
                for reader in self._readers:
                    reader.extra.append(serialize(frames.strange(what, self.last_seq)))
                self._changed.notify_all()
            self._faults.count(f"stream-{what}")
            return self.last_seq

    def cut(self, how: Farewell = "close") -> int:
        """End all connections: goodbye (1000), reset, or ConsumerTooSlow. Returns their number."""
        with self._changed:
            for reader in self._readers:
                reader.farewell = how
            self._faults.count(f"stream-{how}")
            self._changed.notify_all()
            return len(self._readers)

    def stall(self) -> None:
        """Keep connections open and say nothing; pings are still answered."""
        with self._changed:
            self._faults.count("stream-stall")
            self._stalled = True

    def resume(self) -> None:
        """End of the silence: what happened in it comes now."""
        with self._changed:
            self._stalled = False
            self._changed.notify_all()

    def renumber(self, first_seq: int = 1) -> None:
        """Lose the database: the past is gone, numbers start anew, connections break."""
        with self._changed:
            self._faults.count("stream-renumber")
            self.log.reset()
            self.next_seq = first_seq
            self.cut("reset")

    def forget(self, keep: int = 0) -> None:
        """Let all but the newest `keep` events leave the window."""
        with self._changed:
            self._faults.count("stream-forget")
            self.log.forget(keep)

    def stop(self) -> None:
        """End all connections for good."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def answer(self, request: Request) -> Reply | Upgrade:
        """Take a subscriber in."""
        text = request.query.get("cursor", "")
        if text and not (text.isascii() and text.isdigit()):
            return xrpc_error(400, "InvalidRequest", "cursor must be an integer")
        with self._changed:
            # Before the handshake ends, so that a client that is connected misses nothing.
            position, notice, refused = self._place(int(text) if text else None)
        return Upgrade(
            lambda socket: self._serve(_Reader(socket, position), notice, refused), self._wake
        )

    def take_in(self, cursor: int | None, listener: Listener, first: list[bytes]) -> Upgrade:
        """Take a reader in who is told what is after `cursor`."""
        with self._changed:
            position, _, _ = self._place(cursor)

        def hear(text: str) -> tuple[int, str] | None:
            wrong = listener.hear(text)
            self._wake()
            return wrong

        return Upgrade(
            lambda socket: self._serve(_Reader(socket, position, listener), first, False),
            self._wake,
            hear,
        )

    def _number(self) -> int:
        self.next_seq += 1
        self.events += 1
        return self.next_seq - 1

    def _add(self, seq: int, wire: Any) -> None:
        self.log.append(seq, wire, self._clock())
        self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _spoil(self, body: frames.Body, commit: Commit, context: dict[str, object]) -> frames.Body:
        for fault, spoiled in frames.SPOILED.items():
            if self._faults.take(fault, **context) is not None:
                return spoiled(body, commit)
        return body

    def _serve(self, reader: _Reader, notice: list[bytes], refused: bool) -> None:
        with self._changed:
            self._readers.append(reader)
        try:
            reader.socket.send(notice)
            if refused:
                reader.socket.close(1008, "FutureCursor")
            else:
                self._talk(reader)
        finally:
            with self._changed:
                self._readers.remove(reader)

    def _place(self, cursor: int | None) -> tuple[int, list[bytes], bool]:
        """Where a reader starts, what it is told first, and whether that is all it is told."""
        self.log.expire(self._clock())
        end = self.log.end_position
        if cursor is None:
            return end, [], False
        if cursor > self.last_seq:
            future = serialize(frames.error("FutureCursor", "Cursor in the future."))
            return (
                end,
                [future] if self.announces_cursor_trouble else [],
                (self.announces_cursor_trouble),
            )
        notice = []
        if self.announces_cursor_trouble and cursor < self.log.last_forgotten_seq:
            text = "Requested cursor exceeded limit. Possibly missing events"
            notice.append(serialize(frames.info("OutdatedCursor", text)))
        return self.log.position_after(cursor), notice, False

    def _talk(self, reader: _Reader) -> None:
        """Send what there is until somebody ends it."""
        while True:
            with self._changed:
                wires, ended = self._next(reader)
                idle = not wires and not ended and not self._changed.wait(_IDLE_PING_S)
            if ended:
                break
            if wires:
                reader.socket.send(wires)
            elif idle:
                reader.socket.ping()
        self._part(reader)

    def _next(self, reader: _Reader) -> tuple[list[bytes], bool]:
        if reader.socket.closed.is_set() or reader.farewell or self._stopping:
            return [], True
        wires, reader.extra = reader.extra, []
        listener = reader.listener
        if self._stalled or (listener is not None and not listener.may_begin()):
            return wires, False
        if reader.position < self.log.first_position:
            reader.farewell = "too-slow"
            return [], True
        batch = self.log.read(reader.position, _BATCH)
        reader.position += len(batch)
        if listener is not None:
            batch = [wire for event in batch if (wire := listener.wire(event)) is not None]
        return wires + batch, False

    def _part(self, reader: _Reader) -> None:
        if reader.farewell == "reset":
            reader.socket.abort()
        elif reader.farewell == "too-slow":
            text = "Stream consumer too slow"
            reader.socket.send([serialize(frames.error("ConsumerTooSlow", text))])
            reader.socket.close(1008, "ConsumerTooSlow")
        else:
            reader.socket.close(1001 if self._stopping else 1000)
