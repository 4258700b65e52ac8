"""One connection to a source: decodes what it says, and looks whether it goes on where we were.

What cannot be read may have been about anybody, so it is a hole of everybody, written down before
anything after it. One hole stands for all such messages of one read of the socket: they were sent
before it was written down, and whoever it resets is confirmed, and so fetched, after that.
Bounds: when there was enough of that (doubts.py) the connection is broken, and the next one reads
from now on (start.py), after one more hole. What a source has to say of itself counts once each
connection, MAX_INFOS words of it and that our cursor is outdated.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from server.core.errors import BadFrame, StreamSilent
from server.core.events import Account, Commit, Identity, Info, Skipped, Sync
from server.ingest.connection import Line
from server.ingest.counters import SourceCounters
from server.ingest.did_filter import DidFilter
from server.ingest.doubts import Doubts
from server.ingest.frames import Span, copies
from server.ingest.hurry import Hurry
from server.ingest.place import Place
from server.ingest.source import Source
from server.ingest.start import Start
from server.ingest.writer import BatchWriter
from server.storage import repos
from server.storage.changes import void_chains

log = logging.getLogger(__name__)

# Sources do not say that a cursor is older than what they keep. They start at the oldest event, and
# that is later than what we have by more than any pause of a busy network.
OUTDATED_MS = 60_000
# How many events are compared: the time in one of them may be anybody's joke.
FIRST_EVENTS = 5

# After how many messages that were decoded others may have their turn. One that is compressed may
# take as long as ten thousand that are not.
STEP_MESSAGES = 100

# How many different #infos are looked at. Each is a line in the log, or a hole of everybody.
MAX_INFOS = 20

# A source that was not asked for the past may still be busy putting us on its list when the
# connection is open. It tells us everything from its first event on; one that has nothing to tell
# is believed after this long.
STANDING_SECONDS = 0.5

# How far events may be behind the clock and still be of now.
LIVE_MS = 10_000

Told = Commit | Sync | Account | Identity | Skipped


class Reading:
    """A websocket.Handler. `quiet_s`: how long a source may say nothing, if there is another."""

    def __init__(
        self,
        source: Source,
        start: Start,
        writer: BatchWriter,
        counters: SourceCounters,
        is_over: Callable[[], bool],
        quiet_s: float | None,
        did_filter: DidFilter | None,
    ) -> None:
        self.source = source
        self.start = start
        self.writer = writer
        self.counters = counters
        self.is_over = is_over
        self.quiet_s = quiet_s
        self.did_filter = did_filter
        self.place = Place(source, start.own, start.saved_ms)
        # Looked up for each frame.
        self.decode = source.decode
        self.wants = writer.tracked.wants
        # Events about nobody of ours that are not in the metrics yet.
        self.skipped = 0
        self.doubts = Doubts(is_alone=quiet_s is None)
        self.infos: set[str] = set()
        self.first_events = 0
        self.goes_on = False
        # Why the past is missing, and from when, until the source is sure to tell us the present:
        # who is fetched again before that may miss what happens in between.
        self.missing: tuple[str, int] | None = None
        self.stands_at_s = 0.0
        self.last_messages = 0
        self.hurry = Hurry()
        self.last_change = time.monotonic()

    def opened(self, line: Line) -> None:
        """The stream stands: say what is missing before its first event."""
        log.info("connected source=%s", self.source.name)
        if self.did_filter is not None:
            self.did_filter.opened(line, time.monotonic())
        self.counters.connections += 1
        self.writer.metrics.connected.labels(self.source.name).set(1)
        self.writer.places[self.source.name] = self.place
        if self.writer.merge is not None:
            self.writer.merge.comparison.connected(self.source.name, time.monotonic())
        if self.start.voids_chains:
            with self.writer.wait.under_way():
                void_chains(self.writer.epoch)
        if self.start.cursor is None:
            # Nobody knows what was said before we came.
            self._miss(self.start.hole or "no cursor", self.start.saved_ms)
            return
        if self.start.hole is not None:
            self._gap(self.start.hole, self.start.saved_ms)
        self._stand()

    def _miss(self, reason: str, from_ms: int) -> None:
        """The past is not told: a hole, once the present is."""
        self.missing = (reason, from_ms)
        self.stands_at_s = time.monotonic() + STANDING_SECONDS

    def _stand(self) -> None:
        """From now on, or from where we asked on, the source tells us everything."""
        if self.missing is not None:
            reason, from_ms = self.missing
            self.missing = None
            self.first_events = FIRST_EVENTS
            with self.writer.wait.under_way():
                is_spared = self.writer.is_covered() or not repos.is_anybody_tracked()
            # Where something is saved, the cursors vouch for what came after it as well.
            is_fresh = self.start.cursor is None and self.start.hole is None
            if not (is_fresh and is_spared):
                self._gap(reason, from_ms)
        self.place.is_told = True
        if self.counters.connected_us is None:
            self.counters.connected_us = _now_ms() * 1000

    def arrived(self) -> None:
        """What cannot be read of this is another hole."""
        self.doubts.begin()

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterator[None]:
        """Events, in order; nearly all of them about nobody of ours."""
        sift = self.source.sift_text if is_text else self.source.sift_binary
        if sift is not None and self.first_events >= FIRST_EVENTS:
            count = len(spans)
            spans = sift(memory, spans, self.wants)
            self.skipped += count - len(spans)
            self.counters.messages += count - len(spans)
        is_compressed = self.source.dictionary is not None and not is_text
        step = 1 if is_compressed else STEP_MESSAGES
        for number, data in enumerate(copies(memory, spans, is_text=is_text), 1):
            # One by one: while they are taken in, the source is not silent.
            self.counters.messages += 1
            self._message(data)
            if number % step == 0:
                yield

    def _message(self, data: bytes | str) -> None:
        try:
            event = self.decode(data, self.wants)
        except BadFrame as bad:
            self._doubt(bad)
            return
        self.doubts.trust()
        if isinstance(event, Skipped) and self.first_events >= FIRST_EVENTS:
            # Nearly all of them: nothing is done for these but to note the place.
            self.skipped += 1
            self.place.note(*event)
            return
        self.writer.metrics.count_frames(type(event).__name__)
        if isinstance(event, Info):
            self._info(event)
        else:
            self._take(event)

    def _doubt(self, bad: BadFrame) -> None:
        """Nobody knows what was said, nor of whom."""
        self.counters.bad_messages += 1
        self.writer.metrics.drops.labels("unreadable").inc()
        if not self.doubts.has_hole:
            self._gap(f"undecodable frame: {bad}", self.place.event_ms(_now_ms()))
        self.doubts.note(bad)

    def _take(self, event: Told) -> None:
        # The time in an event is the word of whoever wrote it: it may be long ago, but not to come.
        time_ms = min(event.time_ms, _now_ms())
        # What a Jetstream tells of an account has the time of its host; the number is its own time.
        place_ms = event.seq // 1000 if self.source.counts_time else event.time_ms
        if self.first_events < FIRST_EVENTS:
            self._compare(event.seq, min(place_ms, _now_ms()))
        self.place.note(event.seq, self.place.sure_ms(event, place_ms))
        if not isinstance(event, Skipped):
            self.writer.add(self.place, event, time_ms)
            if self.writer.is_due():
                self._hurry()
                self.writer.commit()

    def tick(self) -> bool:
        """Commit what is due; False when the reading is over."""
        if self.missing is not None and time.monotonic() >= self.stands_at_s:
            self._stand()
        self._count_skipped()
        if self.place.has_read and self.writer.is_due():
            self.writer.commit()
        self._hurry()
        if self.quiet_s is not None:
            self._listen(self.quiet_s)
        if self.did_filter is not None:
            messages, now_s = self.counters.messages, time.monotonic()
            self.did_filter.tick(messages, is_live=self._is_live(), now_s=now_s)
        return not self.is_over()

    def _count_skipped(self) -> None:
        self.writer.metrics.count_frames(Skipped.__name__, self.skipped)
        self.skipped = 0

    def _is_live(self) -> bool:
        """Whether what is told is of now."""
        now_ms = _now_ms()
        return bool(self.place.times) and self.place.event_ms(now_ms) > now_ms - LIVE_MS

    def _hurry(self) -> None:
        now_s = time.monotonic()
        if self.place.times:
            self.hurry.hear(self.counters.messages, now_s, is_live=self._is_live())
        self.hurry.go(now_s)

    def _listen(self, quiet_s: float) -> None:
        now = time.monotonic()
        if self.counters.messages != self.last_messages:
            self.last_messages, self.last_change = self.counters.messages, now
        if now - self.last_change > quiet_s:
            raise StreamSilent(f"nothing was said for {quiet_s:.0f} s")

    def ended(self) -> None:
        """The connection is over: what it brought is as good as ever."""
        self.hurry.end()
        self._count_skipped()
        self.place.is_told = False
        self.counters.connected_us = None
        self.writer.metrics.connected.labels(self.source.name).set(0)
        if self.did_filter is not None:
            self.did_filter.ended()
        if self.writer.merge is not None:
            self.writer.merge.comparison.ended(self.source.name)
        if self.place.has_read:
            self.writer.commit()

    def _compare(self, seq: int, time_ms: int) -> None:
        """Look at the first events: they may not go on from what we have."""
        self.first_events += 1
        own, saved_ms = self.start.own, self.start.saved_ms
        if self.missing is not None:
            self._stand()
            return
        if self.start.cursor is None or self.start.hole is not None:
            self.first_events = FIRST_EVENTS
            return
        if self.first_events == 1:
            self.goes_on = time_ms <= saved_ms if own is None else seq <= own.seq + 1
            if own is not None and seq < own.seq:
                self.first_events = FIRST_EVENTS
                self._forget(f"numbers restarted at {seq}")
                return
        if not self.goes_on and time_ms - saved_ms > OUTDATED_MS:
            self.first_events = FIRST_EVENTS
            self._gap("cursor outdated", saved_ms, time_ms)

    def _info(self, event: Info) -> None:
        name = event.name[:80]
        is_hole = name == "OutdatedCursor" and self.start.cursor is not None
        if name in self.infos or (len(self.infos) >= MAX_INFOS and not is_hole):
            return
        self.infos.add(name)
        if is_hole:
            self._miss("cursor outdated", self.start.saved_ms)
            self.first_events = 0
        else:
            log.info("info of the source source=%s name=%s", self.source.name, name)

    def _forget(self, reason: str) -> None:
        """The stored cursor is of no use here any more."""
        self._gap(reason, self.start.saved_ms)
        self.place.seq, self.place.has_read = 0, False

    def _gap(self, reason: str, from_ms: int, to_ms: int | None = None) -> None:
        self.counters.gaps += 1
        self.writer.gap(self.place, reason, from_ms, to_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
