"""The wait of somebody who opens a feed for the first time: short, and only as long as it helps.

The AppView gives up after 5 s. A new viewer's follows and their newest posts usually come in less
than that, so the first request waits for them (and the first for a feed of mutuals, for who follows
back) up to LONGEST_WAIT_SECONDS and then shows what is there. Polls (`limit=1`) and later pages
never wait, and neither do more than MAX_WAITING at once: each waiting request holds a thread that
others need.
"""

import threading
import time
from collections.abc import Callable

LONGEST_WAIT_SECONDS = 2.5
POLL_SECONDS = 0.1
# How long after first sight a viewer is still new: later, what is missing is missing for a reason.
NEW_US = 60 * 1_000_000


class FirstLoads:
    """Who may wait, in one process."""

    def __init__(self, max_waiting: int) -> None:
        self._places = threading.Semaphore(max_waiting)

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Return when a first page is as complete as it can be, or the time is up."""
        if not self._places.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + LONGEST_WAIT_SECONDS
            while not is_ready() and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
        finally:
            self._places.release()
