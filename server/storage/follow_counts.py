"""About how many accounts a viewer follows: a hint for the way a page is looked for, never content.

Remembered for HINT_SECONDS in each process. The memory holds MAX_VIEWERS; when it is full, it is
emptied, and filled again by questions that cost as much as an item of a page.
"""

import threading
import time

from server.storage.prepared import prepared_rows

HINT_SECONDS = 60.0
MAX_VIEWERS = 100_000
# Beyond this it makes no difference.
MOST = 100_000

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM follows WHERE viewer_id = :viewer LIMIT :most) f"
_lock = threading.Lock()
_counts: dict[int, tuple[int, float]] = {}


def follow_count(viewer_id: int) -> int:
    """About how many."""
    now_s = time.monotonic()
    known = _counts.get(viewer_id)
    if known is not None and now_s - known[1] < HINT_SECONDS:
        return known[0]
    number = int(prepared_rows(_COUNT, {"viewer": viewer_id, "most": MOST})[0][0])
    with _lock:
        if len(_counts) >= MAX_VIEWERS:
            _counts.clear()
        _counts[viewer_id] = number, now_s
    return number


def forget_counts() -> None:
    """Another database has other viewers."""
    _counts.clear()
