"""Our service as real processes: started, watched, stopped politely or killed. Knows no feeds."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tests.devnet.ports import free_port
from tests.system.processes import Process, family
from tests.system.waiting import wait_until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30.0
# What `stop` may take; the platforms grant no more.
STOP_SECONDS = 10.0


class Service:
    """`python -m server COMMAND` with all its children, in a session of its own.

    Started again, it has the same port, log and settings.
    """

    def __init__(
        self, environ: Mapping[str, str], folder: Path, command: str = "run", name: str = "service"
    ) -> None:
        self.port = free_port()
        self.command = command
        self.url = f"http://127.0.0.1:{self.port}"
        self.did = f"did:web:localhost%3A{self.port}"
        self.log_path = folder / f"{name}.log"
        self.environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "PORT": str(self.port),
            "WEB_WORKERS": "1",
            "BACKFILL_WORKERS": "8",
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server", self.command],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self, path: str = "/ready") -> None:
        def is_ready() -> bool:
            assert self.is_running, f"the service ended by itself\n{self.log_text()}"
            return self.status_of(path) == 200

        wait_until(is_ready, READY_SECONDS, self.log_text)

    def wait_until_connected(self) -> None:
        """Wait until the reader that runs now hears what is said from now on.

        Ready may be what a process before it has left in the database.
        """
        self.wait_until_ready()
        began = "serving http"
        wait_until(
            lambda: " connected source=" in self.log_path.read_text().rpartition(began)[2],
            READY_SECONDS,
            self.log_text,
        )

    def status_of(self, path: str) -> int | None:
        """The status that a GET gives now; None: nobody answers."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the service was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def family(self) -> list[Process]:
        """All processes of the service that live now."""
        return family(self.pid)

    def members(self, command: str) -> list[Process]:
        """Those whose command line has this in it."""
        return [member for member in self.family() if command in member.command]

    def kill(self) -> None:
        """End the whole family at once, as a crash of the machine does."""
        assert self.is_running, f"the service had ended by itself\n{self.log_text()}"
        members = self.family()
        for member in members:
            member.send(signal.SIGKILL)
        self.wait(STOP_SECONDS)
        wait_until(lambda: not any(m.is_alive() for m in members), STOP_SECONDS, "all are dead")

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the first process only."""
        assert self._process is not None
        self._process.send_signal(signum)

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end after {seconds:.0f} s\n{self.log_text()}") from None

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """End it politely; its exit status. Nobody of the family is left."""
        members = self.family()
        self.send(signum)
        status = self.wait(STOP_SECONDS)
        wait_until(lambda: not any(m.is_alive() for m in members), 1, "nobody was left behind")
        return status

    def end(self) -> None:
        """Make sure that nothing of it lives on, whatever happened before."""
        if self._process is None:
            return
        for member in self.family():
            member.send(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def log_text(self, last: int = 6000) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return f"the end of {self.log_path.name}:\n{text[-last:]}"
