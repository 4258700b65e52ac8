"""One streaming replica, as one process sees it: connections, and whether it is worth trying.

Promises. There are at most `max_connections` of ours, idle ones included. After a failure the
replica rests (REST_SECONDS), twice as long after each further one; then one request
tries it, and only if that goes well do the others follow. So a replica that hangs delays one
request now and then, and those that were under way when it began.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from server.core.backoff import delay_s
from server.core.database_urls import server_name
from server.core.errors import ReplicaUnfit
from server.storage.replica_connection import BUSY, CANCELLED, LAGGING, ReplicaConnection

log = logging.getLogger(__name__)

# The first rest, and the longest. Who lags will have caught up soon, and costs little to try.
REST_SECONDS = (1.0, 30.0)
REST_OF_LAG_SECONDS = (0.1, 2.0)
# Failures one after the other that are worth a line: a moment of lag is not.
LOGGED_FAILURES = 5
# What was idle for longer may have been cut off on the way, and nobody would tell.
MAX_IDLE_SECONDS = 60.0


class Replica:
    """Safe to share between threads."""

    def __init__(self, url: str, max_connections: int) -> None:
        """Connects at first use. `name` is for people: the host and its port."""
        self.name = server_name(url) or "?"
        self.in_use = 0
        self._url = url
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._idle: list[tuple[float, ReplicaConnection]] = []
        self._failures = 0
        self._rests_until = 0.0

    def enter(self, until: float) -> int | None:
        """Ask whether to try it now; None: not now. The answer goes to `leave`.

        Who tries it first after a rest has until `until` before somebody else may.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._rests_until:
                return None
            if self._failures:
                self._rests_until = until
            return self._failures

    def leave(self, failures: int, unfit: ReplicaUnfit | None) -> None:
        """Say how it went, with what `enter` had answered: what began before that is old news."""
        with self._lock:
            if failures != self._failures or (unfit is None and not failures):
                return
            if unfit is None:
                self._failures, self._rests_until = 0, 0.0
                if failures >= LOGGED_FAILURES:
                    log.info("replica in use again host=%s", self.name)
                return
            first_s, longest_s = REST_OF_LAG_SECONDS if unfit.reason == LAGGING else REST_SECONDS
            rest_s = delay_s(failures, first_s, longest_s, random.random)
            self._failures, self._rests_until = failures + 1, time.monotonic() + rest_s
        if failures + 1 == LOGGED_FAILURES:
            log.warning(
                "replica not in use host=%s reason=%s: %s", self.name, unfit.reason, unfit.message
            )

    @contextmanager
    def connection(self, until: float) -> Iterator[ReplicaConnection]:
        """A connection for one page. Raises ReplicaUnfit."""
        connection = self._take_idle()
        keeps = False
        try:
            if connection is None:
                connection = ReplicaConnection(self._url, until)
            connection.until = until
            yield connection
            keeps = True
        except ReplicaUnfit as unfit:
            keeps = unfit.reason in (LAGGING, CANCELLED)
            raise
        finally:
            self._give_back(connection, keeps=keeps)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take_idle(self) -> ReplicaConnection | None:
        """The one used last; None: a new one may be opened. Raises ReplicaUnfit."""
        oldest = time.monotonic() - MAX_IDLE_SECONDS
        with self._lock:
            if not self._idle and self.in_use >= self._max_connections:
                raise ReplicaUnfit(BUSY, "all connections are in use")
            self.in_use += 1
            stale = [one for since, one in self._idle if since < oldest]
            self._idle = [(since, one) for since, one in self._idle if since >= oldest]
            found = self._idle.pop()[1] if self._idle else None
        for connection in stale:
            connection.close()
        return found

    def _give_back(self, connection: ReplicaConnection | None, *, keeps: bool) -> None:
        with self._lock:
            self.in_use -= 1
            if keeps and connection is not None:
                self._idle.append((time.monotonic(), connection))
        if not keeps:
            # What broke one has broken the others, as a rule: after a restart all are new.
            if connection is not None:
                connection.close()
            self.close()
