"""What a connection brings that nobody can read, and when it is enough of that.

Bounds: a hole each read, and MAX_UNREADABLE messages in a row. Where there is another source,
MAX_DOUBTED holes within DOUBTED_SECONDS as well: each resets everybody, so that nobody would ever
be complete while this source is read.
"""

import time
from collections import deque

from server.core.errors import BadFrame, StreamUnreadable

# A source of which so many messages in a row cannot be read does not speak our language.
MAX_UNREADABLE = 10
MAX_DOUBTED, DOUBTED_SECONDS = 10, 600.0


class Doubts:
    """Of one connection. `has_hole`: one is written for this read already."""

    def __init__(self, *, is_alone: bool) -> None:
        self.is_alone = is_alone
        self.has_hole = False
        self._in_a_row = 0
        self._holes_s: deque[float] = deque(maxlen=MAX_DOUBTED)

    def begin(self) -> None:
        """Another read of the socket."""
        self.has_hole = False

    def trust(self) -> None:
        """A message could be read."""
        self._in_a_row = 0

    def note(self, bad: BadFrame) -> None:
        """A message cannot be read, and the hole is written. Raises StreamUnreadable."""
        self._in_a_row += 1
        if self._in_a_row == MAX_UNREADABLE:
            raise StreamUnreadable(f"{MAX_UNREADABLE} messages in a row cannot be read: {bad}")
        if not self.has_hole:
            self.has_hole = True
            self._holes_s.append(time.monotonic())
            if not self.is_alone and self._are_many():
                raise StreamUnreadable(f"again and again something cannot be read: {bad}")

    def _are_many(self) -> bool:
        holes_s = self._holes_s
        return len(holes_s) == MAX_DOUBTED and holes_s[-1] - holes_s[0] < DOUBTED_SECONDS
