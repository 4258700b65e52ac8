"""The window of a stream: numbered events as its owner keeps them. No lock, no clock, no sockets.

Readers remember a position, not a number: positions only grow, while numbers may repeat or
start anew when a stream is told to misbehave.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(slots=True)
class Window:
    """How much is kept. None means without this bound."""

    count: int | None = 100_000
    age_s: float | None = 72 * 3600.0


class _Event(NamedTuple):
    seq: int
    at_us: int
    wire: Any


class EventLog:
    """Appends at the end, forgets at the front."""

    def __init__(self, window: Window) -> None:
        self.window = window
        # The newest number that has left the window; 0 while nothing has.
        self.last_forgotten_seq = 0
        self._events: list[_Event] = []
        self._start = 0  # events before this index are forgotten but not yet deleted
        self._deleted = 0

    def __len__(self) -> int:
        return len(self._events) - self._start

    @property
    def first_position(self) -> int:
        """Where the oldest kept event stands."""
        return self._deleted + self._start

    @property
    def end_position(self) -> int:
        """Where the next event will stand."""
        return self._deleted + len(self._events)

    @property
    def oldest_seq(self) -> int | None:
        """The number of the oldest kept event."""
        return self._events[self._start].seq if len(self) else None

    def position_after(self, seq: int) -> int:
        """Where a replay of everything above `seq` begins."""
        place = bisect_right(self._events, seq, lo=self._start, key=lambda event: event.seq)
        return self._deleted + place

    def read(self, position: int, count: int) -> list[Any]:
        """Up to `count` events from a position that is still in the window."""
        start = position - self._deleted
        return [event.wire for event in self._events[start : start + count]]

    def append(self, seq: int, wire: Any, now_us: int) -> None:
        """Add the newest event; what the window no longer holds goes."""
        self._events.append(_Event(seq, now_us, wire))
        self.expire(now_us)

    def expire(self, now_us: int) -> None:
        """Forget what is too old or too much."""
        start = self._start
        if self.window.count is not None:
            start = max(start, len(self._events) - self.window.count)
        if self.window.age_s is not None:
            oldest_us = now_us - self.window.age_s * 1_000_000
            while start < len(self._events) and self._events[start].at_us < oldest_us:
                start += 1
        self._forget_until(start)

    def forget(self, keep: int) -> None:
        """Forget all but the newest `keep`."""
        self._forget_until(max(self._start, len(self._events) - keep))

    def reset(self) -> None:
        """Forget everything, and that there was anything."""
        self._forget_until(len(self._events))
        self.last_forgotten_seq = 0

    def _forget_until(self, start: int) -> None:
        if start > self._start:
            self.last_forgotten_seq = self._events[start - 1].seq
            self._start = start
        # Deleting from the front moves all that follows, so it waits until it is worth it.
        if self._start * 2 > len(self._events):
            del self._events[: self._start]
            self._deleted += self._start
            self._start = 0
