"""The first load of a feed: how long it waits, and what is said while there is nothing to show.

The AppView gives up after 5 s. A new viewer's follows and their newest posts usually come in less
than that, so the first request waits for them (and the first for a feed of mutuals, for who follows
back) up to LONGEST_WAIT_SECONDS and then shows what is there. Polls (`limit=1`) and later pages
never wait, and neither do more than MAX_WAITING at once: each waiting request holds a thread that
others need.

Where that is nothing, and something is still to come, an empty page would be a lie: apps call it an
empty feed. The operator's notice is shown instead, or, without one, the answer is FeedNotReady, an
error whose message apps show. Somebody whose follows are fetched, or failed to be at least once,
gets the empty page. FeedNotReady ends at the latest PATIENCE_US after first sight of the viewer
(for who follows back: follow_backs.HOPELESS_US after they first asked); the notice stays for as
long as something is to come. Polls and later pages get neither.
"""

import threading
import time
from collections.abc import Callable

LONGEST_WAIT_SECONDS = 2.5
POLL_SECONDS = 0.1
# How long after first sight a viewer is still new: later, what is missing is missing for a reason.
NEW_US = 60 * 1_000_000
# How long after first sight a viewer without a first page is told so. What a PDS has refused us for
# so long, or a stream that is away, may never come; an app that shows an error asks for no news.
PATIENCE_US = 600 * 1_000_000
# The official app puts words of its own before this: that there was some kind of issue.
NOT_READY = (
    "Nothing is wrong: your feed is being put together for the first time."
    " Refresh in a few seconds."
)


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
