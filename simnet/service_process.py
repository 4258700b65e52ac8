"""The service under test as a child process: started, watched until ready, stopped. Nothing else.

It is spoken to only by its command line, its environment and its HTTP endpoints.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30.0
STOP_SECONDS = 10.0
_LOG_LINES_SHOWN = 30


class NotStarted(Exception):
    """The service did not come up; the text says what it printed."""


class ServiceProcess:
    """`python -m server run` on a free port, with its database and its log in `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.port = _free_port()
        self.log_path = folder / "service.log"
        self._environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder / 'feeds.db'}",
            "PORT": str(self.port),
            "WEB_WORKERS": "1",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def did(self) -> str:
        """The service's name when it runs as localhost."""
        return f"did:web:localhost%3A{self.port}"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, stop: threading.Event) -> None:
        """Start it and wait until it is ready; raises NotStarted."""
        # A host name from outside would make the service another one than `did` says.
        for name in ("FEED_HOSTNAME", "FEED_SERVICE_DID"):
            self._environment.pop(name, None)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server", "run"],
                cwd=PROJECT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                raise NotStarted(f"it ended with code {self._process.returncode}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"not ready after {READY_SECONDS:.0f} s:\n{self._tail()}")
            if stop.wait(0.1):
                return

    def stop(self) -> int | None:
        """Ask it to end, insist after a while, and return its exit code."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it stopped without being asked."""
        return self._process is not None and self._process.poll() is not None

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/ready")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def _tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_LINES_SHOWN:]) or "    (silence)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
