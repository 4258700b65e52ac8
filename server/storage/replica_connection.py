"""A connection to a replica that gives up by our own clock.

Promises. Nothing here waits beyond `until`, whatever the other side does: it may refuse, break off,
or accept and say nothing (a server that is stopped, a host that is cut off). Whatever goes wrong is
a ReplicaUnfit with one of REASONS. Nothing can be written through it.

psycopg2 waits in C and without a limit; its asynchronous connections let the caller wait, and so
set one. (Only a look-up of the host's name is beyond reach: it takes as long as the system lets
it.)
"""

import select
import time
from typing import Any

import psycopg2
from psycopg2 import extensions

from server.core.errors import ReplicaUnfit
from server.storage.prepared import PLANNING

# A statement that takes longer is ended by the replica, and the primary is asked.
STATEMENT_MS = 1_000

UNREACHABLE = "unreachable"  # refuses connections, or broke one off
SILENT = "silent"  # does not answer in time
CANCELLED = "cancelled"  # ended a statement: it took too long, or replaying came in its way
FAILING = "failing"  # refused a statement
LAGGING = "lagging"  # has not replayed what the primary has committed
PRIMARY = "primary"  # replays nothing: it was promoted, or never was a replica
FOREIGN = "foreign"  # a replica of another server, database or history
BUSY = "busy"  # all connections that we may have are in use
REASONS = (UNREACHABLE, SILENT, CANCELLED, FAILING, LAGGING, PRIMARY, FOREIGN, BUSY)

# Ended by a timeout, by a conflict with replaying, as a deadlock's victim.
_CANCELLED = ("57014", "40001", "40P01")

_OPTIONS = (
    f"-c statement_timeout={STATEMENT_MS} -c TimeZone=UTC -c default_transaction_read_only=on"
    f" {PLANNING}"
)


class ReplicaConnection:
    """One connection, used by one thread at a time. `until`: by the monotonic clock."""

    def __init__(self, url: str, until: float) -> None:
        """Connect. Raises ReplicaUnfit."""
        self.until = until
        self.prepared: set[str] = set()
        # The primary that it was found to be a replica of, and when: see wal.py.
        self.origin: object = None
        self.origin_found = 0.0
        try:
            self._raw = psycopg2.connect(url, async_=1, options=_OPTIONS)
        except psycopg2.ProgrammingError as error:
            # The driver's words may repeat a part of the password.
            raise ReplicaUnfit(UNREACHABLE, "its URL cannot be understood") from error
        except psycopg2.Error as error:
            raise ReplicaUnfit(UNREACHABLE, error) from error
        try:
            self._wait()
        except ReplicaUnfit:
            self.close()
            raise
        except psycopg2.Error as error:
            self.close()
            raise ReplicaUnfit(UNREACHABLE, error) from error

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement brings, if it brings any. Raises ReplicaUnfit."""
        try:
            cursor = self._raw.cursor()
            cursor.execute(sql, parameters)
            self._wait()
            return [] if cursor.description is None else list(cursor.fetchall())
        except psycopg2.Error as error:
            raise ReplicaUnfit(self._reason(error), error) from error

    def close(self) -> None:
        """Hang up. Waits for nobody."""
        self._raw.close()

    def _wait(self) -> None:
        while (state := self._raw.poll()) != extensions.POLL_OK:
            poller = select.poll()
            is_writing = state == extensions.POLL_WRITE
            poller.register(self._raw.fileno(), select.POLLOUT if is_writing else select.POLLIN)
            left_ms = (self.until - time.monotonic()) * 1000
            if left_ms <= 0 or not poller.poll(left_ms):
                raise ReplicaUnfit(SILENT, "no answer in time")

    def _reason(self, error: psycopg2.Error) -> str:
        if self._raw.closed:
            return UNREACHABLE
        return CANCELLED if error.pgcode in _CANCELLED else FAILING
