"""How many requests one viewer may make, in one process. Each of WEB_WORKERS counts for itself.

By the verified viewer and never by address: everybody's requests come from the few addresses of the
AppView. An app asks about once a second while somebody scrolls, and once a minute otherwise; what
the limit stops is a script or a client that has gone mad, whose owner sees a 429 and nobody else
anything. The memory holds MAX_VIEWERS and forgets whoever came least recently, with a full budget.
"""

import threading
from collections import OrderedDict

from server.core.budget import Budget
from server.core.errors import TooManyRequests

MAX_VIEWERS = 20_000
# A fifth of a minute's requests may come at once: several devices that wake up together.
AT_ONCE = 5


class ViewerLimits:
    """Safe to share between threads."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def count(self, viewer: str, now_us: int) -> None:
        """One more request. Raises TooManyRequests when the viewer has to wait."""
        with self._lock:
            budget = self._budgets.get(viewer)
            if budget is None:
                at_once = max(self._per_minute // AT_ONCE, 1)
                budget = self._budgets[viewer] = Budget(at_once, self._per_minute / 60)
                if len(self._budgets) > MAX_VIEWERS:
                    self._budgets.popitem(last=False)
            self._budgets.move_to_end(viewer)
            if not budget.take(now_us):
                raise TooManyRequests("too many requests of yours: wait a few seconds")
