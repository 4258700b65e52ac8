"""Locks that end with their holder: no clock decides, and no crash leaves one behind.

SQLite: `flock` on a file beside the database, which the kernel lets go with the process.
PostgreSQL: an advisory lock on a connection of its own, which the server lets go with the
connection. (A pooler that shares connections between clients would break that: connect directly.)
"""

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import psycopg2
from psycopg2.extensions import connection as PgConnection  # noqa: N812

from server.storage.connection_pool import patience
from server.storage.database import DatabaseError, current, is_sqlite, sqlite_path
from server.storage.ownership import open_own

_POLL_SECONDS = 0.2
# A holder whose machine is gone without a goodbye is noticed by the server within a minute.
_NOTICE_A_LOST_HOLDER = (
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
# Our advisory locks, as PostgreSQL numbers them: this, and one number a name.
_SPACE = 0x6A91


@dataclass(slots=True)
class Lock:
    """A lock that is held. `file` or `connection`, whichever the database has."""

    file: int | None
    connection: PgConnection | None

    def is_held(self) -> bool:
        """Whether it is still ours: False when the server dropped our connection."""
        if self.connection is None:
            return self.file is not None
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error:
            return False
        return True

    def release(self) -> None:
        """Let it go; harmless when it is lost already."""
        if self.file is not None:
            os.close(self.file)
            self.file = None
        if self.connection is not None:
            # The server takes a moment to notice that a connection was closed.
            with suppress(psycopg2.Error), self.connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")
            self.connection.close()


def acquire(name: str, wait_s: float = 0.0) -> Lock | None:
    """The lock `name`, or None if somebody else has it for longer than `wait_s`.

    Raises DatabaseError when the database cannot be reached.
    """
    deadline = time.monotonic() + wait_s
    while True:
        lock = _try_file(name) if is_sqlite() else _try_advisory(name)
        if lock is not None or time.monotonic() >= deadline:
            return lock
        time.sleep(_POLL_SECONDS)


def _try_file(name: str) -> Lock | None:
    path = sqlite_path()
    try:
        file = open_own(Path(f"{path}.{name}-lock"), os.O_RDWR)
    except OSError as error:
        raise DatabaseError(f"no lock can be made beside the database: {error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return Lock(file, None)


def _try_advisory(name: str) -> Lock | None:
    number = crc32(name.encode()) & 0x7FFFFFFF
    try:
        url = current().database
        connection = psycopg2.connect(url, options=_NOTICE_A_LOST_HOLDER, **patience(url))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (_SPACE, number))
            row = cursor.fetchone()
    except psycopg2.Error as error:
        raise DatabaseError(str(error).strip()) from error
    if row is not None and row[0]:
        return Lock(None, connection)
    connection.close()
    return None
