"""Which viewers this process has seen lately, so that a request rarely writes anything.

A viewer is written down at first sight (which queues the fetching of their follows), and later once
in TOUCH_SECONDS. One who was let go meanwhile is a stranger, whatever the memory says; one who came
back since by way of another process is as new here. The memory holds MAX_VIEWERS and forgets
whoever came least recently: then the database is asked again, and nothing is wrong. Where nothing
can be written (storage/spare_writes.py), known viewers are shown what there is, and only new ones
are told to come later.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from server.storage import viewers
from server.storage.spare_writes import SpareWrites

TOUCH_SECONDS = 600
MAX_VIEWERS = 100_000


@dataclass(slots=True)
class Sighting:
    """A viewer: their number, when they first came, and when that was last written down."""

    number: int
    first_us: int
    written_us: int


class Sightings:
    """Safe to share between threads; one for each process."""

    def __init__(
        self,
        count: Callable[[bool], None] = lambda is_hit: None,
        writes: SpareWrites | None = None,
    ) -> None:
        """`count` is told for each question whether the answer was in memory."""
        self._count = count
        self._seen: OrderedDict[str, Sighting] = OrderedDict()
        self._writes = writes or SpareWrites()
        self._lock = threading.Lock()

    def see(self, did: str, now_us: int) -> Sighting:
        """The viewer, who is here now."""
        with self._lock:
            sighting = self._seen.get(did)
            if sighting is not None:
                self._seen.move_to_end(did)
        self._count(sighting is not None)
        if sighting is None:
            sighting = self._meet(did, now_us)
        elif abs(now_us - sighting.written_us) > TOUCH_SECONDS * 1_000_000:
            # A clock may have been ahead then. Who comes meanwhile need not do it as well.
            sighting.written_us = now_us
            sighting = self._meet(did, now_us)
        return sighting

    def _meet(self, did: str, now_us: int) -> Sighting:
        known = viewers.find(did)
        if known is not None and self._touch(did, known.number, now_us):
            sighting = Sighting(known.number, known.first_us, now_us)
        else:
            with self._lock:
                self._seen.pop(did, None)
            number = viewers.welcome(did, now_us)
            sighting = Sighting(number, now_us, now_us)
        with self._lock:
            self._seen[did] = sighting
            while len(self._seen) > MAX_VIEWERS:
                self._seen.popitem(last=False)
        return sighting

    def _touch(self, did: str, number: int, now_us: int) -> bool:
        """Write down that the viewer is here; False if they were let go."""
        is_here = self._writes.attempt("who is here", lambda: viewers.touch(number, now_us))
        if is_here is not None:
            return is_here
        known = viewers.find(did)
        return known is not None and known.number == number
