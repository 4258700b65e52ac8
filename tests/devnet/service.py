"""Our service as a process of its own: started, killed, restarted on the same port and database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

from tests.devnet.client import Account, generator_record
from tests.devnet.ports import free_port

ROOT = Path(__file__).parents[2]

READY_SECONDS = 60.0
STOP_SECONDS = 30.0

# What the service publishes, written down a second time: a renamed feed is a lost feed.
RKEYS = (
    "following",
    "everything",
    "posts-only",
    "no-reposts",
    "no-quotes",
    "media",
    "mutuals",
    "quiet",
    "catch-up",
)


class Service:
    """`python -m server run` with all its children in one process group.

    `publisher` is an account of the network in whose repo the feeds are; see `publish`.
    """

    def __init__(
        self, info: Mapping[str, str], publisher: Account, database_url: str, folder: Path
    ) -> None:
        self.publisher = publisher
        self.port = free_port()
        # The AppView looks did:web up over plain http for this one host name.
        self.did = f"did:web:localhost%3A{self.port}"
        self.url = f"http://localhost:{self.port}"
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", str(folder)),
            "DATABASE_URL": database_url,
            "STREAM_URLS": info["stream"],
            "PLC_URL": info["plc"],
            "APPVIEW_URL": info["appview"],
            "PORT": str(self.port),
            "FEED_PUBLISHER_DID": publisher.did,
            "ALLOW_PRIVATE_HOSTS": "1",
            "VIEWER_REQUESTS_PER_MINUTE": "1000000",
        }

    def feed_uri(self, rkey: str) -> str:
        return f"at://{self.publisher.did}/app.bsky.feed.generator/{rkey}"

    def publish(self) -> None:
        """Put generator records into the publisher's repo: plain ones, enough to read by."""
        for rkey in RKEYS:
            self.publisher.put(rkey, generator_record(self.did, rkey))

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server", "run"],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"service not ready (exit status {ended})\n{self.log_text()}")
            time.sleep(0.1)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """End the whole process group at once, as a crash of the machine does."""
        assert self._process is not None
        assert self._process.poll() is None, f"the service died by itself\n{self.log_text()}"
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._wait_until_port_is_free()
        self._process = None

    @contextmanager
    def nothing_is_fetched(self) -> Iterator[None]:
        """The half that reads and fetches stands still meanwhile; the other one answers."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        (ingest,) = (child for child in children if child.cmdline()[-1] == "ingest")
        ingest.suspend()
        try:
            yield
        finally:
            ingest.resume()

    def stop(self) -> int | None:
        """End it politely; its exit status. None if it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        # Whatever the supervisor left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert status is not None, f"no end {STOP_SECONDS:.0f} s after SIGTERM\n{self.log_text()}"
        return status

    def log_text(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return f"the end of the service's log:\n{text[-3000:]}"

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _wait_until_port_is_free(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                    return
            time.sleep(0.05)
        raise AssertionError("somebody still answers on the service's port after the kill")
