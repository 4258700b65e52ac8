"""How many jobs are at each PDS, so that a slow one does not hold all workers. Threads share it.

The websites of all did:web count as one (storage/jobs.py).
"""

from collections import Counter
from threading import Lock


class Places:
    """A PDS has `each` places; a job takes one at most, and leaves it when its turn is over."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._lock = Lock()
        self._taken: dict[int, str] = {}
        self._counts: Counter[str] = Counter()

    def take(self, author_id: int, pds_url: str) -> bool:
        """Whether there was a place for the author's job at this PDS; it has only this one then."""
        with self._lock:
            if self._counts[pds_url] >= self._each:
                return False
            self._leave(author_id)
            self._counts[pds_url] += 1
            self._taken[author_id] = pds_url
            return True

    def leave(self, author_id: int) -> None:
        """The author's job is over, wherever it was, if it was anywhere."""
        with self._lock:
            self._leave(author_id)

    def _leave(self, author_id: int) -> None:
        pds_url = self._taken.pop(author_id, None)
        if pds_url is None:
            return
        self._counts[pds_url] -= 1
        if not self._counts[pds_url]:
            del self._counts[pds_url]

    def full(self) -> list[str]:
        """The PDSes that have no place left."""
        with self._lock:
            return [pds_url for pds_url, count in self._counts.items() if count >= self._each]
