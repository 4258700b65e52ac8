"""How far one source has been read, and what of it may be promised to others.

`event_ms` of a cursor says that everything before it is saved, so that another source can go on
from there. The times in events are the word of whoever wrote them, and one clock that is ahead must
not make us skip hours: so it is the time that three in four of the last events have reached. Too
early a time costs a longer replay and nothing else. Nearly all events about strangers are passed
over, and none about those whom we track, so that one of them could say what time it is. But a relay
passes on no rev of a time to come, and so a commit that is replayed is no later than its rev. Where
that does not agree with the time, and of what has no rev, the time counts only if none else does.

Who vouches for what, where several sources are read (merge.py): `seq` is how far this one was
read, `held_seq` its first event that still waits for its turn, and the cursor stays below that.
`event_ms` vouches for all sources, so it stays at `held_ms`, how far anybody had been read when the
first of all that waits was told; but never goes back behind what is saved already (`saved_ms` at
the start, then that of `stored`). Nor does it where nothing waits and a source says again what is
saved: one that is cut before it says anything new would be asked further back each time. But no
time that is still to come is vouched for: a clock was ahead when that was saved.
"""

from collections import deque

from server.core.events import Commit, Event, Skipped
from server.core.syntax import tid_us
from server.ingest.source import Source
from server.storage.cursors import StreamCursor

# How many of the last events say what time it is.
WITNESSES = 16
# How far the rev of a commit and its time may be apart: both are of one clock.
SKEW_MS = 60_000


class Place:
    """The reader's place in one source. `stored` is the cursor that the database has of it."""

    def __init__(self, source: Source, stored: StreamCursor | None, saved_ms: int) -> None:
        self.source = source
        self.stored = stored
        self.seq = 0 if stored is None else stored.seq
        self.saved_ms = saved_ms
        self.times: deque[int] = deque(maxlen=WITNESSES)
        # Whether anything was read: without, there is nothing to save.
        self.has_read = False
        # Whether whatever happens now is told to us, on the connection that stands.
        self.is_told = False

    def note(self, seq: int, time_ms: int) -> None:
        """An event was read; `time_ms` 0: it did not say when it happened."""
        self.has_read = True
        if seq > self.seq:
            self.seq = seq
        if time_ms:
            self.times.append(time_ms)

    def sure_ms(self, event: Event, time_ms: int) -> int:
        """The time of an event, to be noted; 0 for one that proves nothing."""
        if self.source.counts_time or isinstance(event, Skipped) or not self.times:
            return time_ms
        if isinstance(event, Commit):
            rev_ms = tid_us(event.rev) // 1000
            return min(time_ms, rev_ms) if abs(time_ms - rev_ms) <= SKEW_MS else 0
        return 0

    def event_ms(self, now_ms: int) -> int:
        """Everything that happened before this has been read."""
        if not self.times:
            return self.saved_ms
        return min(self.told_ms(), now_ms)

    def told_ms(self) -> int:
        """What time it is by what was told last, whatever our clock says; 0: nothing was told."""
        return sorted(self.times)[len(self.times) // 4] if self.times else 0

    def cursor(
        self, now_ms: int, held_seq: int | None = None, held_ms: int | None = None
    ) -> StreamCursor:
        """What may be saved when `held_seq` is the first event that is still in hand.

        `held_ms`: nothing later than this is vouched for, but for what was before.
        """
        seq = self.seq if held_seq is None else min(self.seq, held_seq - 1)
        event_ms = max(self.event_ms(now_ms), min(self.saved_ms, now_ms))
        if held_ms is not None:
            vouched_ms = self.saved_ms if self.stored is None else self.stored.event_ms
            event_ms = min(event_ms, max(held_ms, vouched_ms))
        return StreamCursor(self.source.name, seq, event_ms, self.source.has_chain)
