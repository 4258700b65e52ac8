"""Which of gunicorn's processes takes a new connection: the one that has fewest.

All of them listen on one socket, and whoever is awake accepts: sixteen connections of a proxy that
are opened at once, and kept, often end up with one process, while the others have nothing to do
(docs/decisions.md has what that costs).

Promises. A process that has more connections than another lets it go first, for TURN_SECONDS: then
it accepts itself, so that nobody waits for a process that is stuck. Numbers are those of a moment
and may be off by what is being accepted just now. They are kept in memory that the processes share
since they were forked; a process that ended has none any more (`child_exit = leave_place` in
gunicorn's configuration).
"""

import mmap
import time

TURN_SECONDS = 0.001
# Twice the largest WEB_WORKERS: a reload has the old ones and the new ones side by side.
MAX_PROCESSES = 128
_NOBODY = -1


class Turns:
    """The numbers of connections, a place for each process."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * MAX_PROCESSES)).cast("i")
        for place in range(MAX_PROCESSES):
            self._counts[place] = _NOBODY

    def take_place(self) -> "Place | None":
        """A place for one process, before it is forked; None if there is none left."""
        for number, count in enumerate(self._counts):
            if count == _NOBODY:
                self._counts[number] = 0
                return Place(self._counts, number)
        return None


class Place:
    """What one process says of itself, and sees of the others."""

    def __init__(self, counts: memoryview, number: int) -> None:
        self._counts = counts
        self._number = number

    def have(self, connections: int) -> None:
        """Say how many connections there are here."""
        self._counts[self._number] = connections

    def let_others_go_first(self) -> None:
        """Wait for a moment, if another process has fewer connections."""
        fewest = min(count for count in self._counts if count != _NOBODY)
        if fewest < self._counts[self._number]:
            time.sleep(TURN_SECONDS)

    def leave(self) -> None:
        """Give the place back: the process has ended."""
        self._counts[self._number] = _NOBODY


def leave_place(_server: object, worker: object) -> None:
    """In gunicorn's main process, told of each worker that ended."""
    place = getattr(worker, "place", None)
    if isinstance(place, Place):
        place.leave()
