"""The subscriber: reads the sources that are preferred among those that are well.

Promises. What a cursor stands for is saved; a crash at any moment repeats work and loses none. A
hole is in the ledger before anything after it is saved. Repos that the database tracks are in the
tracked set before they are confirmed, and only confirmed repos are backfilled.

Its peers. STREAM_URLS is a list by preference; one entry is a source, or several that are read
together (merge.py). A source that is slow is waited for; one that is silent, wrong or gone is left
(StreamBroken) and connected to again after a growing delay, or later if it asks for that. When all
sources of an entry have failed TRIES_A_SOURCE times in a row, the next entry has its turn, and goes
on where the last one was (start.py). Meanwhile the preferred ones are asked now and then, and get
their turn back when they have answered PREFERRED_PROBES times in a row. Frames that cannot be read
are counted, and open a gap; a source with too many of them rests while another is read. A database
that fails raises out of `run`: nothing goes on without it. LeaseLost does the same. Who is being
dialled delays neither a stop nor a change of turn.

One thread, one event loop: connections (turns.py), keeping the tracked set and waiting take turns.
Bounds: one batch in memory (writer.py), and what merge.py remembers.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from threading import Event as StopEvent

from server.core.backoff import delay_s
from server.core.errors import StreamBroken, StreamSilent, StreamUnreadable
from server.core.metrics import IngestMetrics
from server.ingest.breaks import kind_of, told, useless_cursor, wish_s
from server.ingest.comparison import Comparison
from server.ingest.compression import note_end, renew
from server.ingest.counters import SourceCounters
from server.ingest.dialling import all_of, unless
from server.ingest.did_filter import EVERYBODY, DidFilter
from server.ingest.merge import Merge
from server.ingest.reading import Reading
from server.ingest.source import Source, source_of
from server.ingest.start import Start, find_start, probe
from server.ingest.tracked import TrackedSet
from server.ingest.websocket import open_stream
from server.ingest.writer import BatchWriter
from server.storage import leases
from server.storage.cursors import load_position
from server.storage.stalls import DatabaseWait

log = logging.getLogger(__name__)

# How often the tracked set is compared with the database, and a sign of life written.
REFRESH_SECONDS, REPORT_SECONDS = 0.1, 2.0

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
# A connection that held this long, and spoke, was healthy: the next failure starts with a short
# delay again.
HEALTHY_SECONDS = 30.0
TRIES_A_SOURCE = 4
# A source that says nothing is left for another this soon, if there is another.
QUIET_SECONDS = 60.0

# How often the preferred sources are asked while another is read, and longer after each return that
# did not last HOME_SECONDS.
FIRST_CHECK_SECONDS, LONGEST_CHECK_SECONDS = 60.0, 1800.0
HOME_SECONDS = 3600.0
PREFERRED_PROBES = 3
PROBE_PAUSE_SECONDS = 5.0


class _Turn:
    """While one entry of STREAM_URLS is read. `next`: whose turn is after it."""

    def __init__(self, number: int, sources: Sequence[Source], stop: StopEvent) -> None:
        self.number = number
        self.sources = sources
        self.stop = stop
        self.next: int | None = None
        # How often each source has failed since it was last well.
        self.failures = dict.fromkeys((source.name for source in sources), 0)

    def is_over(self) -> bool:
        return self.next is not None or self.stop.is_set()


class Subscriber:
    """One reader for as long as this process leads. `run` ends when `stop` is set, or raises.

    `counters` has what happened on each source, by its name; `wait`, since when the thread has been
    waiting for the database.
    """

    def __init__(
        self,
        stream_urls: Sequence[Sequence[str]],
        user_agent: str,
        epoch: int,
        stop: StopEvent,
        jetstream_dictionary: str | None = None,
        metrics: IngestMetrics | None = None,
        filter_dids: int = 0,
    ) -> None:
        self.groups = [
            [source_of(url, user_agent, jetstream_dictionary) for url in urls]
            for urls in stream_urls
        ]
        self.user_agent = user_agent
        self.epoch = epoch
        self.stop = stop
        self.metrics = metrics or IngestMetrics()
        self.tracked = TrackedSet()
        self.wait = DatabaseWait("stream")
        self.counters = {
            source.name: SourceCounters() for sources in self.groups for source in sources
        }
        # Of the sources that can be asked to tell of the tracked only.
        self.filters = {
            source.name: DidFilter(source.name, self.tracked, filter_dids)
            for sources in self.groups
            for source in sources
            if source.takes_wishes and filter_dids
        }
        self.returns = 0
        for name in self.counters:
            self.metrics.connected.labels(name).set(0)

    def run(self) -> None:
        """Read until stopped. Raises DatabaseError or LeaseLost."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        with self.wait.under_way():
            self.tracked.refresh()
        number = 0
        while not self.stop.is_set():
            turn = _Turn(number, self.groups[number], self.stop)
            began = time.monotonic()
            await self._read_group(turn)
            if number == 0 and time.monotonic() - began > HOME_SECONDS:
                self.returns = 0
            if turn.next is not None:
                self.metrics.source_changes.inc()
            number = turn.number if turn.next is None else turn.next

    async def _read_group(self, turn: _Turn) -> None:
        merge = self._merge(turn)
        writer = BatchWriter(self.tracked, self.epoch, self.metrics, merge, self.wait)
        work = [self._read_source(source, turn, writer) for source in turn.sources]
        work.append(self._keep_house(turn))
        if turn.number > 0:
            work.append(self._watch_preferred(turn))
        try:
            await all_of(work)
        finally:
            with self.wait.under_way():
                leases.report(self.epoch, time.time_ns() // 1000, None)

    def _merge(self, turn: _Turn) -> Merge | None:
        if len(turn.sources) == 1:
            return None
        counters = {source.name: self.counters[source.name] for source in turn.sources}
        now_s = time.monotonic()
        comparison = Comparison(counters, self.metrics, now_s)
        return Merge(comparison, now_s, time.time_ns() // 1_000_000)

    async def _read_source(self, source: Source, turn: _Turn, writer: BatchWriter) -> None:
        """Connect and read, again and again."""
        counters = self.counters[source.name]
        useless = None
        while not turn.is_over():
            began, before = time.monotonic(), counters.messages
            try:
                start = await unless(turn.is_over, self._find_start(source, useless))
                if start is not None:
                    await self._read_from(start, source, turn, writer)
            except StreamBroken as broken:
                has_spoken = counters.messages > before
                useless = useless_cursor(broken) or (None if has_spoken else useless)
                note_end(source.dictionary, broken)
                is_well = has_spoken and time.monotonic() - began > HEALTHY_SECONDS
                is_well = is_well and not isinstance(broken, StreamUnreadable)
                await self._wait(source, broken, turn, is_well=is_well)

    async def _find_start(self, source: Source, useless: str | None) -> Start:
        await renew(source.dictionary)
        now_ms = time.time_ns() // 1_000_000
        return await find_start(source, self.user_agent, now_ms, useless, self.wait)

    async def _read_from(
        self, start: Start, source: Source, turn: _Turn, writer: BatchWriter
    ) -> None:
        """Read until the turn is over. Raises StreamBroken."""
        log.info("connecting source=%s cursor=%s", source.name, start.cursor)
        counters, did_filter = self.counters[source.name], self.filters.get(source.name)
        quiet_s = QUIET_SECONDS if len(self.groups) > 1 or len(turn.sources) > 1 else None
        reading = Reading(source, start, writer, counters, turn.is_over, quiet_s, did_filter)
        address = source.address(start.cursor)
        try:
            await open_stream(address, self.user_agent, reading, turn.is_over)
        except StreamBroken:
            reading.ended()
            raise
        reading.ended()

    async def _wait(
        self, source: Source, broken: StreamBroken, turn: _Turn, *, is_well: bool
    ) -> None:
        counters = self.counters[source.name]
        if is_well:
            counters.failures_in_a_row = turn.failures[source.name] = 0
        pause_s = delay_s(
            counters.failures_in_a_row, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random
        )
        pause_s = max(pause_s, wish_s(broken))
        kind = kind_of(broken)
        counters.broken[kind] = counters.broken.get(kind, 0) + 1
        self.metrics.breaks.labels(source.name, kind).inc()
        counters.failures_in_a_row += 1
        # To be silent once more takes as long as this time: there is no use in trying.
        turn.failures[source.name] += TRIES_A_SOURCE if isinstance(broken, StreamSilent) else 1
        log.warning(
            "stream broken source=%s kind=%s retry_s=%.1f: %s",
            *(source.name, kind, pause_s, told(broken)),
        )
        has_failed = min(turn.failures.values()) >= TRIES_A_SOURCE
        # One that is read now may have failed before that.
        if len(self.groups) > 1 and has_failed and self._connected_us(turn) is None:
            turn.next = (turn.number + 1) % len(self.groups)
            names = "+".join(one.name for one in self.groups[turn.next])
            log.warning("changing source from=%s to=%s", source.name, names)
        await self._sleep(pause_s, turn)
        if isinstance(broken, StreamUnreadable):
            await self._rest(counters.failures_in_a_row - 1, turn)

    async def _rest(self, attempt: int, turn: _Turn) -> None:
        """Do without a source that opens one hole of everybody after another, while we can."""
        rest_s = delay_s(attempt, FIRST_CHECK_SECONDS, LONGEST_CHECK_SECONDS, random.random)
        until = time.monotonic() + rest_s
        while time.monotonic() < until and self._connected_us(turn) and not turn.is_over():
            await self._sleep(REFRESH_SECONDS, turn)

    async def _keep_house(self, turn: _Turn) -> None:
        """Take new repos in, and say so; give signs of life."""
        confirmed, next_report = -1, 0.0
        while not turn.is_over():
            with self.wait.under_way():
                self.tracked.refresh()
                connected_us = self._connected_us(turn)
                # Whatever is told from now on is read with them: on this connection or, with a
                # cursor, on the next one. But a source may have been asked to leave them out.
                version = min(self.tracked.version, self._covered(turn))
                if version > confirmed and (connected_us or load_position() is not None):
                    confirmed = version
                    leases.confirm(self.epoch, confirmed)
                if time.monotonic() >= next_report:
                    next_report = time.monotonic() + REPORT_SECONDS
                    leases.report(self.epoch, time.time_ns() // 1000, connected_us)
            await self._sleep(REFRESH_SECONDS, turn)

    def _connected_us(self, turn: _Turn) -> int | None:
        """Since when some source of this turn has been read."""
        since = [self.counters[source.name].connected_us for source in turn.sources]
        return min((us for us in since if us is not None), default=None)

    def _covered(self, turn: _Turn) -> int:
        """The version up to which no source of this turn leaves anybody out."""
        filters = (self.filters.get(source.name) for source in turn.sources)
        return min((one.covered for one in filters if one is not None), default=EVERYBODY)

    async def _watch_preferred(self, turn: _Turn) -> None:
        """Give the turn back as soon as a preferred entry is well again."""
        pause_s = delay_s(self.returns, FIRST_CHECK_SECONDS, LONGEST_CHECK_SECONDS, random.random)
        while not turn.is_over():
            await self._sleep(pause_s, turn)
            for number in range(turn.number):
                if not turn.is_over() and await self._is_well(self.groups[number], turn):
                    names = "+".join(one.name for one in self.groups[number])
                    log.info("returning to preferred source=%s", names)
                    self.returns += 1
                    turn.next = number

    async def _is_well(self, sources: Sequence[Source], turn: _Turn) -> bool:
        """Whether at least one of the sources tells something each time it is asked."""
        for source in sources:
            answers = 0
            try:
                await unless(turn.is_over, renew(source.dictionary))
                while await unless(turn.is_over, probe(source, self.user_agent, None)):
                    answers += 1
                    if answers == PREFERRED_PROBES:
                        return True
                    await self._sleep(PROBE_PAUSE_SECONDS, turn)
            except StreamBroken as broken:
                note_end(source.dictionary, broken)
                log.info("preferred source is not well source=%s: %s", source.name, told(broken))
        return False

    async def _sleep(self, seconds: float, turn: _Turn) -> None:
        until = time.monotonic() + seconds
        while not turn.is_over() and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, REFRESH_SECONDS))
