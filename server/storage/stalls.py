"""That the database keeps somebody waiting, told while it lasts, by a thread that does not wait.

Whoever waits for a statement can say nothing. So those who save what the stream and the backfill
bring note since when they wait (`DatabaseWait.under_way`), and another thread looks at that now
and then (`look`): the schedule's, which itself asks the database nothing.

Promises. Who waits for STALL_SECONDS is warned of once while it lasts, and once when it is over,
with how long it took; one that is over before anybody looked, only then. Nothing is ended here, and
nothing is lost: how long a statement may take is said in opening.py.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

STALL_SECONDS = 5.0


class DatabaseWait:
    """The waiting of one thread. Any other may look. `who`: a fixed word for logs and metrics."""

    def __init__(self, who: str) -> None:
        self.who = who
        # By the monotonic clock; each set by one thread only.
        self._since: float | None = None
        self._told: float | None = None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Within it, the thread waits for the database. Not to be nested."""
        began = self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None
            took_s = time.monotonic() - began
            if took_s >= STALL_SECONDS:
                log.warning("waited for the database who=%s seconds=%.1f", self.who, took_s)

    def look(self) -> float:
        """For how many seconds it has waited; 0 when it does not."""
        since = self._since
        if since is None:
            return 0.0
        waited_s = time.monotonic() - since
        if waited_s >= STALL_SECONDS and since != self._told:
            self._told = since
            log.warning(
                "still waiting for the database who=%s seconds=%.1f: nothing is lost, and nothing"
                " goes on until it answers",
                *(self.who, waited_s),
            )
        return waited_s
