"""The least application under real gunicorn with our worker: what the worker does, seen alone."""

import gc
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gunicorn.http.message import Request

from tests.devnet.ports import free_port

PATIENCE_S = 20.0
LONG_BYTES = 150_000
EPOLL, PLAIN = "server.gunicorn_epoll.EpollWorker", "server.gunicorn_worker.Worker"

NUMBERS = {
    "/garbage": lambda: gc.get_threshold()[0],
    "/requests": lambda: sum(type(thing) is Request for thing in gc.get_objects()),
    "/unread": lambda: sum(
        len(thing.getvalue()) for thing in gc.get_objects() if type(thing) is io.BytesIO
    ),
}


def app(environ, start_response) -> Iterable[bytes]:
    """Answer with the process's number; `/wait` takes a second, `/exit` would end a program.

    `/long` is as long as our longest answers. `/garbage`: at how many objects Python looks for it.
    `/requests`: how many requests are in memory; `/unread`: how many bytes are for who reads them.
    `/circle` leaves a circle behind.
    """
    if environ["PATH_INFO"] == "/wait":
        time.sleep(1)
    if environ["PATH_INFO"] == "/exit":
        sys.exit(1)
    if environ["PATH_INFO"] == "/circle":
        environ["circle"] = environ
    number = NUMBERS.get(environ["PATH_INFO"], os.getpid)()
    body = b"x" * LONG_BYTES if environ["PATH_INFO"] == "/long" else str(number).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@dataclass
class Tiny:
    """A running gunicorn."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(folder: Path, *options: str, worker: str = EPOLL, files: int = 1024) -> Iterator[Tiny]:
    """gunicorn with our worker and these options, until the end of the block.

    `files`: how many descriptors each process may have.
    """
    port, log_path = free_port(), folder / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", *options]
    command += ["-c", str(Path(__file__).parent / "tiny_conf.py"), "tests.web.tiny:app"]
    command += ["-k", worker]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
        )
    tiny = Tiny(process, port, log_path)
    try:
        _wait_for(tiny)
        yield tiny
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def ask(sock: socket.socket, path: str = "/") -> int:
    """The number that a request on this connection was answered with."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = sock.recv(4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return int(body)


def _wait_for(tiny: Tiny) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            with tiny.connect() as sock:
                ask(sock)
                return
        except OSError:
            assert time.monotonic() < until_s, tiny.log()
            assert tiny.process.poll() is None, tiny.log()
            time.sleep(0.05)
