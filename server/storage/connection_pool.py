"""The connections of a process to PostgreSQL, handed on from thread to thread.

Promises. A connection that was in use a moment ago is handed out as it is; one that rested for
REST_SECONDS is asked first whether the server still answers, and thrown away if not. So after a
restart of the server, whoever gets a connection that was in use at that very moment gets an error,
as those did who used it; nobody else does.

peewee's own pool asks each time, with a round trip in a lock that every thread waits for: half of
what a first page cost the database.
"""

import time
from typing import Any

from playhouse.pool import PooledPostgresqlDatabase

REST_SECONDS = 1.0


class ConnectionPool(PooledPostgresqlDatabase):  # type: ignore[misc]
    """peewee's, with less doubt. Its connections are `prepared.Connection`s."""

    def _can_reuse(self, conn: Any) -> bool:
        """As it comes back."""
        conn.rests_since_s = time.monotonic()
        return bool(super()._can_reuse(conn))

    def _is_closed(self, conn: Any) -> bool:
        """As it is handed out."""
        if not conn.closed and time.monotonic() - conn.rests_since_s < REST_SECONDS:
            return False
        return bool(super()._is_closed(conn))
