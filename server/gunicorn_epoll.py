"""The worker on Linux: its threads wait for connections themselves, at one epoll.

gunicorn's main thread waits for all connections, hands each to a thread when it has something to
say, and takes it back afterwards: two more changes of thread for each request, each of which has to
get hold of the interpreter (docs/decisions.md has what that costs). Here the kernel wakes one of
the threads that wait, the one that was busy last, whose memory is still warm.

Promises. What a connection says is handled by one thread at a time (EPOLLONESHOT), those that were
heard first come first. Whoever sends several requests at once gets behind the others after each. A
connection that says nothing, or half a request (gunicorn_intake.py), holds no thread. It is ended
after `keepalive` seconds, or MAX_READ_SECONDS after the beginning of the request; one that has more
requests under way than it takes answers, after MAX_LISTENING_SECONDS. A request's time in the queue
is counted from its last byte (TCP_INFO), so what the kernel kept for us before it was accepted is
in it. A thread outlives whatever a request does.

Bounds: `worker_connections`, beyond which more wait in the kernel; `threads`. The end: nobody new,
every answer is the last one of its connection, and connections that are silent have LINGER_SECONDS,
for a request that is under way.

The main thread accepts, and looks once a second for connections that have been silent too long. It
never closes one: it only ends the talk (`shutdown`), which wakes the thread that does, so that no
descriptor can have got a new owner between an event and its handling.
"""

import logging
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import TConn

from server.gunicorn_intake import (
    MAX_BODY_BYTES,
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    Intake,
    Room,
    Verdict,
)
from server.gunicorn_last_words import hang_up, last_words
from server.gunicorn_turns import Turns
from server.gunicorn_worker import (
    MAX_READ_SECONDS,
    ImpatientSocket,
    Worker,
)

log = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
LOOK_SECONDS = 1.0
MAX_LISTENING_SECONDS = 5.0

# tcpi_last_data_recv of `struct tcp_info`: milliseconds since the last bytes came.
_TCP_INFO = struct.Struct("=52xI")

_ONE_REQUEST = select.EPOLLIN | select.EPOLLONESHOT
# For one that was read already: the connection is ready as soon as those before it had their turn.
_AGAIN = select.EPOLLOUT | select.EPOLLONESHOT

_REFUSALS: dict[Verdict, tuple[int, str, str]] = {
    Verdict.LONG_HEAD: (
        431,
        "RequestHeaderFieldsTooLarge",
        f"the head of the request is longer than {MAX_HEAD_BYTES} bytes",
    ),
    Verdict.LONG_BODY: (
        413,
        "RequestEntityTooLarge",
        f"the body is longer than {MAX_BODY_BYTES} bytes, or in more than {MAX_CHUNKS} chunks",
    ),
}

# Made where gunicorn reads this file: before it forks.
_TURNS = Turns()


class EpollWorker(Worker):
    """One process that answers requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = _TURNS.take_place()
        self._room = Room()
        self._open: set[TConn] = set()
        # By descriptor; gunicorn asks how many there are.
        self.keepalived_conns: dict[int, TConn] = {}

    def init_process(self) -> None:
        """In the process that was forked; returns when it is to end."""
        self._epoll = select.epoll()
        super().init_process()

    def get_thread_pool(self) -> "EpollWorker":
        """Itself: gunicorn only ever shuts it down."""
        return self

    def shutdown(self, wait: bool = True) -> None:
        """Nothing: the threads end with the process."""

    def run(self) -> None:
        """Serve until a signal."""
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"request-{number}", daemon=True).start()
        wakes = self.method_queue
        self.poller.register(wakes.fileno(), selectors.EVENT_READ, wakes.run_callbacks)
        looked_s = time.monotonic()
        while self.alive and self.is_parent_alive():
            self.notify()
            self.set_accept_enabled(len(self._open) < self.worker_connections)
            self.wait_for_and_dispatch_events(timeout=LOOK_SECONDS)
            if (now_s := time.monotonic()) >= looked_s + LOOK_SECONDS:
                self._end_silent(now_s)
                looked_s = now_s
        self.set_accept_enabled(False)
        self._end()
        for listener in self.sockets:
            listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection; what it says is for the threads."""
        if self.place is not None:
            self.place.let_others_go_first()
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptor is left, or no memory: it waits in the kernel until there is.
            log.warning("a connection has to wait: %s", error)
            time.sleep(LOOK_SECONDS)
            return
        conn = TConn(
            self.cfg, ImpatientSocket(fileno=client.detach()), address, listener.getsockname()
        )
        # No thread takes it before there is something to read.
        conn.data_ready = True
        conn.intake, conn.read_until_s = Intake(self._room), None
        self._open.add(conn)
        self._count()
        self._listen(conn, self._epoll.register, _ONE_REQUEST, self.cfg.keepalive)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether the connection goes on: what is left of a request is here, and not waited for."""
        return keepalive and bool(conn.parser.finish_body())

    def waited_s(self, conn: TConn) -> float:
        """Seconds since the last byte of what a connection has to say came."""
        info = conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        return float(_TCP_INFO.unpack(info)[0]) / 1000

    def _serve(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll(maxevents=1):
                conn = self.keepalived_conns.pop(descriptor)
                try:
                    self._attend_to(conn)
                except BaseException:
                    log.exception("unexpected error")
                    self._close(conn)

    def _attend_to(self, conn: TConn) -> None:
        verdict = conn.intake.hear(conn.sock)
        if verdict is Verdict.ENOUGH:
            self._answer(conn)
        elif verdict is Verdict.MORE:
            self._wait_for_rest(conn)
        else:
            if verdict in _REFUSALS:
                log.info("request refused unread: %s", verdict.value)
                last_words(conn.sock, *_REFUSALS[verdict])
                hang_up(conn.sock)
            elif verdict is Verdict.NO_ROOM:
                message = "too many requests are under way: try again in a few seconds"
                self.refuse(conn, message, verdict.value)
                hang_up(conn.sock)
            self._close(conn)

    def _answer(self, conn: TConn) -> None:
        conn.read_until_s = None
        conn.init()
        conn.parser.unreader.unread(conn.intake.take())
        if not self.handle(conn):
            self._close(conn)
            return
        said = conn.parser.unreader.take_buffered()
        if not said:
            self._listen(conn, self._epoll.modify, _ONE_REQUEST, self.cfg.keepalive)
            return
        conn.intake.put_back(said)
        if conn.intake.judge() is Verdict.MORE:
            self._wait_for_rest(conn)
        else:
            self._listen(conn, self._epoll.modify, _AGAIN, MAX_LISTENING_SECONDS)

    def _wait_for_rest(self, conn: TConn) -> None:
        now_s = time.monotonic()
        conn.read_until_s = conn.read_until_s or now_s + MAX_READ_SECONDS
        self._listen(conn, self._epoll.modify, _ONE_REQUEST, conn.read_until_s - now_s)

    def _listen(
        self, conn: TConn, change: Callable[[int, int], None], events: int, patience_s: float
    ) -> None:
        conn.timeout = time.monotonic() + patience_s
        descriptor = conn.sock.fileno()
        self.keepalived_conns[descriptor] = conn
        change(descriptor, events)

    def _close(self, conn: TConn) -> None:
        self._open.discard(conn)
        self._count()
        conn.intake.clear()
        # Still there, where listening to it failed.
        self.keepalived_conns.pop(conn.sock.fileno(), None)
        conn.close()
        if not self._accepting:
            # The main thread waits for this.
            self.method_queue.defer(_nothing)

    def _count(self) -> None:
        if self.place is not None:
            self.place.have(len(self._open))

    def _end_silent(self, now_s: float) -> None:
        """End connections whose time is over."""
        for conn in list(self.keepalived_conns.values()):
            if conn.timeout <= now_s:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)

    def _end(self) -> None:
        """Wait for the answers that are under way, and for those who may be about to ask."""
        began_s = time.monotonic()
        while self._open and (now_s := time.monotonic()) < began_s + self.cfg.graceful_timeout:
            self.notify()
            if now_s >= began_s + LINGER_SECONDS:
                self._end_silent(float("inf"))
            self.wait_for_and_dispatch_events(timeout=0.1)


def _nothing() -> None:
    """What is put into the queue to wake the main thread."""
