"""Our worker for gunicorn: what it promises about connections, threads and its end."""

import os
import signal
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from server.gunicorn_turns import MAX_PROCESSES, TURN_SECONDS, Turns
from tests.system.waiting import wait_until
from tests.web.tiny import EPOLL, PATIENCE_S, PLAIN, Tiny, ask, running

TWO = ("-w", "2", "--threads", "2")
ONE = ("-w", "1", "--threads", "2")
BOTH = pytest.mark.parametrize("worker", [EPOLL, PLAIN], ids=["epoll", "plain"])


def open_many(stack: ExitStack, tiny: Tiny, count: int) -> list[socket.socket]:
    return [stack.enter_context(tiny.connect()) for _ in range(count)]


def read_until_closed(sock: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while piece := sock.recv(4096):
            received += piece
    return received


@BOTH
def test_a_process_looks_for_garbage_rarely(tmp_path, worker):
    with running(tmp_path, *ONE, worker=worker) as tiny, tiny.connect() as sock:
        # Python's own word is 700.
        assert ask(sock, "/garbage") >= 50_000


UNREAD = {
    "length": b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000,
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + b"x" * 20_000 + b"\r\n0\r\n\r\n",
    "no end": b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + b"x" * 20_000 + b"..",
    "no coding": b"Transfer-Encoding: nonsense\r\n\r\n" + b"x" * 20_000,
}


@BOTH
@pytest.mark.parametrize("body", UNREAD.values(), ids=UNREAD.keys())
def test_what_nobody_reads_is_gone_with_its_connection(tmp_path, worker, body):
    with running(tmp_path, *ONE, worker=worker) as tiny:
        for path in ("/", "/circle"):
            for goes_on in ("close", "keep-alive"):
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: {goes_on}\r\n".encode()
                for _ in range(10):
                    with tiny.connect() as one:
                        one.sendall(head + body)
                        one.recv(4096)
        with tiny.connect() as sock:
            # Those in a circle are still here, but not what they said. A thread has its last one.
            assert ask(sock, "/requests") <= 2 * 10 + 4
            assert ask(sock, "/unread") < 4 * 20_000


@pytest.mark.attack("sockets")
def test_connections_that_say_nothing_hold_no_thread(tmp_path):
    with running(tmp_path, *ONE) as tiny, ExitStack() as stack:
        silent = open_many(stack, tiny, 50)
        began_s = time.monotonic()
        for sock in open_many(stack, tiny, 4):
            ask(sock)
        assert time.monotonic() - began_s < 2
        assert ask(silent[0]) == ask(silent[-1])


HALVES = (
    b"GET / HTTP/1.1\r\nHost:",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 00000000000000000009\r\n\r\nhalf",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n\r\n0\r\n\r\n",
)


@pytest.mark.attack("sockets")
def test_half_requests_hold_no_thread_and_are_ended(tmp_path):
    with running(tmp_path, *ONE) as tiny, ExitStack() as stack:
        halves = open_many(stack, tiny, 60)
        for number, sock in enumerate(halves):
            sock.sendall(HALVES[number % len(HALVES)])
        began_s = time.monotonic()
        for sock in open_many(stack, tiny, 4):
            ask(sock)
        assert time.monotonic() - began_s < 2
        for sock in halves:
            assert read_until_closed(sock) == b""
        assert 3 < time.monotonic() - began_s < 12


@pytest.mark.attack("sockets")
def test_clients_that_do_not_take_their_answer_hold_no_thread(tmp_path):
    with running(tmp_path, *ONE) as tiny, ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            # Loopback's packets are so long that the kernel would keep more by itself.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.connect(("127.0.0.1", tiny.port))
            sock.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        began_s = time.monotonic()
        for sock in open_many(stack, tiny, 4):
            ask(sock)
        assert time.monotonic() - began_s < 2


@BOTH
def test_requests_sent_at_once_are_answered_in_order(tmp_path, worker):
    with running(tmp_path, *ONE, worker=worker) as tiny, tiny.connect() as sock:
        paths = [f"/{number}" for number in range(200)]
        sock.sendall(
            b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths[:-1])
            + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        received = read_until_closed(sock)
        assert received.count(b"HTTP/1.1 200") == len(paths)
        assert received.count(b"Connection: close") == 1


@pytest.mark.attack("sockets")
def test_who_sends_many_requests_at_once_gets_behind_the_others(tmp_path):
    request = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(tmp_path, *ONE) as tiny, ExitStack() as stack:
        greedy, modest = open_many(stack, tiny, 2), open_many(stack, tiny, 2)
        for sock in greedy:
            sock.sendall(request * 5)
        time.sleep(0.3)
        for sock in modest:
            sock.sendall(request)
        began_s = time.monotonic()
        for sock in modest:
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        # Behind the first of each, and not behind all ten of them: a request takes a second.
        assert time.monotonic() - began_s < 3.5


def test_a_connection_that_is_silent_for_too_long_is_ended(tmp_path):
    with running(tmp_path, *ONE, "--keep-alive", "2") as tiny, ExitStack() as stack:
        used, unused = open_many(stack, tiny, 2)
        ask(used)
        began_s = time.monotonic()
        assert used.recv(1) == b""
        assert unused.recv(1) == b""
        assert 1 < time.monotonic() - began_s < 8


@BOTH
def test_what_a_request_does_ends_no_thread(tmp_path, worker):
    with running(tmp_path, *ONE, worker=worker) as tiny, ExitStack() as stack:
        for sock in open_many(stack, tiny, 6):
            sock.sendall(b"GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_until_closed(sock) == b""
        assert ask(stack.enter_context(tiny.connect()))


@BOTH
def test_at_the_end_an_answer_under_way_is_sent_and_nobody_is_kept(tmp_path, worker):
    with running(tmp_path, *ONE, worker=worker) as tiny, ExitStack() as stack:
        asking, idle = open_many(stack, tiny, 2)
        ask(idle)
        asking.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.3)
        began_s = time.monotonic()
        assert tiny.stop() == 0
        assert time.monotonic() - began_s < 6
        answer = read_until_closed(asking)
        assert answer.startswith(b"HTTP/1.1 200")
        assert idle.recv(1) == b""


@pytest.mark.attack("sockets")
def test_more_connections_than_a_process_takes_wait_for_their_turn(tmp_path):
    with running(tmp_path, *ONE, "--worker-connections", "10") as tiny, ExitStack() as stack:
        first = open_many(stack, tiny, 10)
        late = stack.enter_context(tiny.connect())
        late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(PATIENCE_S)
        first[0].close()
        assert late.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.attack("sockets")
def test_without_descriptors_connections_wait_and_the_process_lives(tmp_path):
    with running(tmp_path, *ONE, files=40) as tiny, ExitStack() as stack:
        with ExitStack() as crowd:
            sockets = open_many(crowd, tiny, 60)
            served = ask(sockets[0])
            wait_until(lambda: "a connection has to wait" in tiny.log(), PATIENCE_S, tiny.log)
        assert ask(stack.enter_context(tiny.connect())) == served


def wait_for_another(tiny: Tiny, known: set[int]) -> int:
    """The number of a process that answers and is not among those known."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        with ExitStack() as stack, suppress(ConnectionError):
            now = {ask(sock) for sock in open_many(stack, tiny, 4)}
            if now - known:
                return (now - known).pop()
    raise TimeoutError(tiny.log())


def test_connections_go_to_who_has_fewest_and_not_to_who_is_stuck(tmp_path):
    with running(tmp_path, *TWO) as tiny:
        stuck = wait_for_another(tiny, set())
        other = wait_for_another(tiny, {stuck})
        in_its_turn = 0
        for _ in range(5):
            with ExitStack() as stack:
                os.kill(stuck, signal.SIGSTOP)
                meanwhile = [ask(sock) for sock in open_many(stack, tiny, 20)]
                os.kill(stuck, signal.SIGCONT)
                assert meanwhile == [other] * 20
                then = [ask(sock) for sock in open_many(stack, tiny, 20)]
                in_its_turn += then.count(stuck)
        # Left to chance it is 1 to 19 of 20. On a busy machine a turn may be over too soon.
        assert in_its_turn >= 80


def test_who_comes_after_a_process_that_died_gets_connections(tmp_path):
    with running(tmp_path, *TWO) as tiny, ExitStack() as stack:
        died = wait_for_another(tiny, set())
        stayed = wait_for_another(tiny, {died})
        open_many(stack, tiny, 40)
        os.kill(died, signal.SIGKILL)
        assert wait_for_another(tiny, {died, stayed})


def test_whoever_has_more_connections_lets_others_go_first(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("server.gunicorn_turns.time.sleep", waits.append)
    turns = Turns()
    here, there = turns.take_place(), turns.take_place()
    assert here is not None
    assert there is not None
    here.let_others_go_first()
    assert waits == []
    here.have(1)
    here.let_others_go_first()
    there.let_others_go_first()
    assert waits == [TURN_SECONDS]
    there.leave()
    here.let_others_go_first()
    assert waits == [TURN_SECONDS]


def test_a_place_that_was_left_is_taken_again_and_too_many_do_without():
    turns = Turns()
    places = [turns.take_place() for _ in range(MAX_PROCESSES)]
    assert None not in places
    assert turns.take_place() is None
    places[7].leave()
    assert turns.take_place() is not None
    assert turns.take_place() is None
