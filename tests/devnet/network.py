"""Starts and stops the official network: PostgreSQL, and one Node process with all the servers."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.devnet.install import Installation, install, state_folder
from tests.devnet.postgres import Postgres

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class OfficialNetwork:
    """PLC directory, PDS and AppView, all new and empty at each start, on loopback only.

    `stream_window_ms` is how long the PDS keeps events for replay (its default is a day): with a
    short one an old cursor meets `#info OutdatedCursor`.
    """

    def __init__(self, stream_window_ms: int | None = None) -> None:
        self.info: dict[str, str] = {}
        self.start_seconds = 0.0
        self.postgres = Postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="devnet-"))
        self._stream_window_ms = stream_window_ms
        self._node: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Install what is missing, then start. Raises RegistryUnreachable or InstallFailed."""
        installation = install(state_folder())
        began = time.monotonic()
        self.postgres.start()
        self._start_node(installation)
        self.info = json.loads(self._first_line())
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End what `start` started, however far it came."""
        if self._node is not None:
            self._node.terminate()
            try:
                self._node.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._node.kill()
                self._node.wait()
            for pipe in (self._node.stdin, self._node.stdout):
                if pipe is not None:
                    pipe.close()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        """The end of what the servers wrote to stderr."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_node(self, installation: Installation) -> None:
        files = self.folder / "files"
        files.mkdir()
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", str(self.folder)),
            "TMPDIR": str(files),  # repos and blobs of the PDS
            "LOG_ENABLED": "false",
            "OFFICIAL_DATABASE_URL": self.postgres.url(),
        }
        if self._stream_window_ms is not None:
            environ["OFFICIAL_STREAM_WINDOW_MS"] = str(self._stream_window_ms)
        with (self.folder / "log").open("wb") as log:
            self._node = subprocess.Popen(
                [str(installation.node), "--enable-source-maps", str(installation.script)],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def _first_line(self) -> bytes:
        assert self._node is not None
        assert self._node.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._node.stdout, selectors.EVENT_READ)
            ready = selector.select(START_SECONDS)
        line = self._node.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"the official servers did not start: {self.log_text()}")
        return line
