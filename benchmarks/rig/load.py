"""A client that asks over a few connections that it keeps, in one thread of its own process.

As fast as answers come, or at a pace: then a request that has to wait for a free connection has
begun when it was due, so that a server that stalls cannot hide it. What is asked in the first
LEAD_IN_S does not count: the server had a rest before, and first looks at what was written since.
"""

import multiprocessing
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

TIMEOUT_S = 30.0
LEAD_IN_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: these requests (whole, as bytes), in turn; `seconds` after the lead-in."""

    port: int
    requests: Sequence[bytes]
    connections: int
    seconds: float
    a_second: float | None = None


@dataclass(slots=True)
class Answers:
    """How many came, and how long each took."""

    a_second: float = 0.0
    times_s: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        """A quantile, in milliseconds."""
        return sorted(self.times_s)[int(share * (len(self.times_s) - 1) + 0.5)] * 1000


def run(load: Load) -> Answers:
    """Ask, in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(_Client(load).run()))
    process.start()
    theirs.close()
    try:
        found: Answers = ours.recv()
    finally:
        process.join()
    return found


class _Client:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.answers = Answers()
        self.asked = 0
        self.selector = selectors.DefaultSelector()
        self.free: deque[socket.socket] = deque()
        self.began_s: dict[socket.socket, float] = {}
        for _ in range(load.connections):
            one = socket.create_connection(("127.0.0.1", load.port), timeout=TIMEOUT_S)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(one, selectors.EVENT_READ)
            self.free.append(one)

    def run(self) -> Answers:
        began_s = time.perf_counter()
        counted_s = began_s + LEAD_IN_S
        until_s = counted_s + self.load.seconds
        while (now_s := time.perf_counter()) < until_s:
            due_s = self._ask(began_s, now_s)
            for key, _ in self.selector.select(min(max(due_s - now_s, 0), 0.05)):
                self._read(key.fileobj, counted_s)  # type: ignore[arg-type]
        self.answers.a_second = len(self.answers.times_s) / (time.perf_counter() - counted_s)
        return self.answers

    def _ask(self, began_s: float, now_s: float) -> float:
        """Send what is due; when the next one is."""
        pace = self.load.a_second
        while self.free:
            due_s = now_s if pace is None else began_s + self.asked / pace
            if due_s > now_s:
                return due_s
            one = self.free.popleft()
            one.sendall(self.load.requests[self.asked % len(self.load.requests)])
            self.began_s[one] = due_s
            self.asked += 1
        return now_s + 1

    def _read(self, one: socket.socket, counted_s: float) -> None:
        data = one.recv(65_536)
        head, mark, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or not mark:
            raise RuntimeError(f"no answer, or a refusal: {data[:300]!r}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        missing = length - len(body)
        while missing > 0:
            missing -= len(one.recv(missing))
        if self.began_s[one] >= counted_s:
            self.answers.times_s.append(time.perf_counter() - self.began_s[one])
        self.free.append(one)
