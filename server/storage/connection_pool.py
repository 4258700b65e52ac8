"""The connections of a process to PostgreSQL, handed on from thread to thread.

Promises. A connection that was in use a moment ago is handed out as it is; one that rested for
REST_SECONDS is asked first whether the server still answers, and thrown away if not. So after a
restart of the server, whoever gets a connection that was in use at that very moment gets an error,
as those did who used it; nobody else does.

peewee's own pool asks each time, with a round trip in a lock that every thread waits for: half of
what a first page cost the database.

A `Line` is a connection beside the pool, for one statement that is asked again and again by one
thread at a time: nobody has to get it and give it back. Once it broke, whoever asks gets an error,
and whoever asks next a new one. Each is one connection more than the pool's bound; a web process
has one.

How long a statement may take is the server's to say, as for all connections here. A server that
cannot say anything any more (its machine is gone, or somebody on the way has forgotten the
connection) is noticed by the kernel: SILENT_SECONDS after it was last heard of, whether an answer
is waited for or not, the connection is broken. A quarter of an hour would be the default.
"""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import psycopg2
from peewee import OperationalError
from playhouse.pool import PooledDatabase, PooledPostgresqlDatabase

REST_SECONDS = 1.0
# The AppView has given up by then. In less, a machine that is moved to another one would be lost.
SILENT_SECONDS = 10

_PATIENCE = {
    "connect_timeout": SILENT_SECONDS,
    # Whoever says nothing is asked three times.
    "keepalives_idle": SILENT_SECONDS - 6,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # Who was sent something is not asked: it is sent again.
    "tcp_user_timeout": 1000 * SILENT_SECONDS,
}


def patience(url: str) -> dict[str, Any]:
    """How long a connection may be silent, in libpq's words, as far as the URL does not say it."""
    said = parse_qs(url.partition("?")[2], keep_blank_values=True)
    return {name: value for name, value in _PATIENCE.items() if name not in said}


class ConnectionPool(PooledPostgresqlDatabase):  # type: ignore[misc]
    """peewee's, with less doubt. Its connections are `prepared.Connection`s."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **patience(url), **settings)
        self.lines: list[Line] = []

    def line(self, prepare: str, execute: str) -> "Line":
        """A line that prepares a statement and executes it. It is open until `close_all`."""
        self.lines.append(Line(self, prepare, execute))
        return self.lines[-1]

    def connect_apart(self) -> Any:
        """A connection that the pool does not count; whoever asks for it closes it."""
        return super(PooledDatabase, self)._connect()

    def close_all(self) -> None:
        """Close every connection."""
        super().close_all()
        for line in self.lines:
            line.close()

    def _can_reuse(self, conn: Any) -> bool:
        """As it comes back."""
        conn.rests_since_s = time.monotonic()
        return bool(super()._can_reuse(conn))

    def _is_closed(self, conn: Any) -> bool:
        """As it is handed out."""
        if not conn.closed and time.monotonic() - conn.rests_since_s < REST_SECONDS:
            return False
        return bool(super()._is_closed(conn))


class Line:
    """See above. For one thread at a time."""

    def __init__(self, pool: ConnectionPool, prepare: str, execute: str) -> None:
        self._pool, self._prepare, self._execute = pool, prepare, execute
        self._connection: Any = None

    def rows(self, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows of the statement. Raises DatabaseError."""
        try:
            if self._connection is None:
                self._open()
            with self._connection.cursor() as cursor:
                cursor.execute(self._execute, values)
                return list(cursor.fetchall())
        except psycopg2.Error as error:
            if self._connection is not None and self._connection.closed:
                self.close()
            raise OperationalError(str(error)) from error

    def close(self) -> None:
        """Close the connection, if there is one. The line can be used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        connection = self._pool.connect_apart()
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._prepare)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
