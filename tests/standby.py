"""A primary and its streaming replicas, all real: made with pg_basebackup, on loopback."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from tests.devnet.postgres import START_SECONDS, Postgres
from tests.system.processes import family
from tests.system.waiting import wait_until


class Server(Postgres):
    """A server that can be asked, frozen and killed.

    It keeps its log, or a replica that stood still over two checkpoints would not find the rest.
    """

    def __init__(self, **settings: str) -> None:
        super().__init__(**{"wal_keep_size": "1GB"} | settings)

    def programs(self) -> Path:
        """Where its programs are."""
        assert self._server is not None
        return Path(self._server.args[0]).parent  # type: ignore[arg-type, index]

    def ask(self, sql: str, database: str = "postgres") -> Any:
        """The first column of the first row, by a connection of its own."""
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None

    def lengthen_log(self, times: int) -> None:
        """Begin so many new files of 16 MB; one in which nothing is written would not be left."""
        for _ in range(times):
            self.ask("SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'longer', '')")

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._server is not None
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(START_SECONDS)

    def come_back(self, programs: Path | None = None) -> None:
        """Start it, with the data that it has."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), *settings]
        self._server = self._run((programs or self.programs()) / "postgres", options)
        self._wait_until_ready(self._server)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections, since the kernel does, and says nothing."""
        assert self._server is not None
        members = family(self._server.pid)
        for member in members:
            member.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for member in members:
                member.send(signal.SIGCONT)


class Standby(Server):
    """A streaming replica of a server; or (not `streams`) a copy of it that goes its own way."""

    def __init__(self, primary: Server, *, streams: bool = True) -> None:
        super().__init__()
        self.primary = primary
        self.streams = streams

    def start(self) -> None:
        programs, data = self.primary.programs(), self.folder / "data"
        data.mkdir(mode=0o700)
        self.folder.chmod(0o711)
        if os.geteuid() == 0:
            shutil.chown(data, "nobody")
        copy = ["-D", str(data), "-d", self.primary.url(), "-c", "fast", "--no-sync"]
        copy += ["-R"] if self.streams else []
        if self._run(programs / "pg_basebackup", copy).wait(START_SECONDS) != 0:
            raise RuntimeError(self.log_text())
        self.come_back(programs)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It receives what the primary writes, and does not show it."""
        self.ask("SELECT pg_wal_replay_pause()")
        # The pause is asked for at once, and kept from the next record on.
        wait_until(lambda: self._pause_state() == "paused", 10, "replaying has paused")
        try:
            yield
        finally:
            self.ask("SELECT pg_wal_replay_resume()")

    def _pause_state(self) -> str:
        return str(self.ask("SELECT pg_get_wal_replay_pause_state()"))


class Streaming:
    """A primary, one replica, and a database in both."""

    NAME = "gapless"

    def __init__(self) -> None:
        self.primary = Server(synchronous_commit="on")
        self.replica = Standby(self.primary)

    def start(self) -> None:
        self.primary.start()
        self.primary.create_database(self.NAME)
        self.replica.start()

    def stop(self) -> None:
        self.replica.stop()
        self.primary.stop()

    @property
    def primary_url(self) -> str:
        return self.primary.url(self.NAME)

    @property
    def replica_url(self) -> str:
        return self.replica.url(self.NAME)
