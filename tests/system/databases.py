"""The two databases as a test sees them from outside: a URL to hand over, and a way to look in."""

import secrets
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import psycopg2

from tests.devnet.postgres import Postgres

KINDS = ("sqlite", "postgresql")


class Database(Protocol):
    """One empty database for one service."""

    url: str

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement in a connection of its own; `?` marks a parameter."""

    def drop_lock(self) -> bool:
        """Take the lead's lock from whoever holds it; False: only its holder can let it go."""

    def away(self) -> AbstractContextManager[object]:
        """Nobody can write meanwhile."""


class SqliteFile:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=15)) as connection, connection:
            return list(connection.execute(sql, parameters))

    def drop_lock(self) -> bool:
        return False

    @contextmanager
    def away(self) -> Iterator[None]:
        """Somebody else holds the write lock, and does not queue for it as we do."""
        with closing(sqlite3.connect(self.path, timeout=15, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


class PostgresDatabase:
    """A database of the server that all tests share."""

    def __init__(self, server: "StoppablePostgres") -> None:
        self.server = server
        self.name = f"gapless_{secrets.token_hex(6)}"
        self.url = server.create_database(self.name)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.url)) as connection, connection:
            cursor = connection.cursor()
            cursor.execute(sql.replace("?", "%s"), parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def drop_lock(self) -> bool:
        """Have the server end the connection that holds it."""
        ended = self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid = ?",
            # Not the lock of somebody who starts, and migrates.
            (crc32(b"ingest") & 0x7FFFFFFF,),
        )
        assert ended == [(True,)]
        return True

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server crashes, and comes back."""
        self.server.go_away(signal.SIGQUIT)
        yield
        self.server.come_back()


class StoppablePostgres(Postgres):
    """A server that can go away and come back with its data on the same port.

    What it has confirmed outlives the process, since the machine goes on and keeps what was
    written.
    """

    def _run(self, program: Path, options: list[str]) -> subprocess.Popen[bytes]:
        durable = ["--synchronous_commit=on"] if program.name == "postgres" else []
        return super()._run(program, [*options, *durable])

    def go_away(self, signum: signal.Signals) -> None:
        """SIGINT: in order, without waiting for clients. SIGQUIT: as in a crash."""
        assert self._server is not None
        self._server.send_signal(signum)
        self._server.wait(30)

    def come_back(self) -> None:
        assert self._server is not None
        program, *options = self._server.args
        self._server = super()._run(Path(program), options)
        self._wait_until_ready(self._server)


def open_gaps(database: Database) -> list[tuple[Any, ...]]:
    """Whose, why, from which host: the gaps that have not healed, and the jobs that still wait."""
    gaps = database.rows(
        "SELECT 'gap', a.did, g.reason FROM gaps g LEFT JOIN authors a ON a.id = g.author_id"
        " WHERE g.closed_us IS NULL"
    )
    jobs = database.rows(
        "SELECT 'job', a.did, j.last_error FROM backfill_jobs j"
        " JOIN authors a ON a.id = j.author_id"
    )
    return gaps + jobs


def has_cursor(database: Database) -> bool:
    """Whether the service has a place in the stream to go on from. Before its first event it has
    none, and a start without one is a hole.
    """
    return database.rows("SELECT seq FROM stream_cursors") != []


def gap_reasons(database: Database) -> set[str]:
    """Why gaps were opened so far, healed ones too."""
    return {reason for (reason,) in database.rows("SELECT reason FROM gaps")}


def gap_counts(database: Database) -> tuple[int, int]:
    """How many gaps were opened so far, and how many of them have healed."""
    ((opened, healed),) = database.rows("SELECT count(*), count(closed_us) FROM gaps")
    return opened, healed
