"""A process knows one history of its database, and ends when it meets another.

A process remembers which account a number stands for (authors.py), and viewers by their numbers
(web/sightings.py). A primary that fails may be replaced by one that lacks the last commits: it
gives the numbers that were lost to other accounts, and pages would name the wrong people. SQLite
has one file, which is replaced with the service stopped.

Promises. A connection to a server whose origin (wal.py) is another than that of this process's
first connection is refused with psycopg2's OperationalError, so nothing is read from it; and
`leave` is called once, which has the process end. Whoever comes after it remembers nothing. A
failover that lost nothing looks the same. Bounds: one short query for each new connection. Where
the server does not tell its origin (a provider may forbid that), nothing is noticed.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2

from server.storage.prepared import Connection
from server.storage.wal import ORIGIN_OF_PRIMARY, Origin

log = logging.getLogger(__name__)


class OneHistory:
    """Opens the connections of one process."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._lock = threading.Lock()
        self._first: Origin | None = None
        self._is_over = False

    def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """A connection, as psycopg2's `connection_factory`."""
        connection = Connection(*args, **kwargs)
        try:
            connection.origin = _origin(connection)
            self._compare(connection.origin)
        except BaseException:
            connection.close()
            raise
        return connection

    def _compare(self, origin: Origin | None) -> None:
        if origin is None:
            return
        with self._lock:
            self._first = self._first or origin
            if origin == self._first:
                return
            is_news, self._is_over = not self._is_over, True
        if is_news:
            log.error("the database has another history than before (a failover?): starting anew")
            self._leave()
        raise psycopg2.OperationalError("the database has another history than this process")


def _origin(connection: Connection) -> Origin | None:
    """Where it leads; None where the server does not say."""
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute(ORIGIN_OF_PRIMARY)
            row = cursor.fetchone()
            return None if row is None else Origin(*row)
    except psycopg2.Error as error:
        # Not allowed, or a standby, which is in no position to say.
        if (error.pgcode or "").startswith(("42", "55")):
            return None
        raise
    finally:
        if not connection.closed:
            connection.rollback()
