"""The subscriber: reads a source, turns events into batches, and commits each with its cursor.

Promises. What a cursor stands for is saved; a crash at any moment repeats work and loses none. A
hole is in the ledger before anything after it is saved. Repos that the database tracks are in the
tracked set before they are confirmed, and only confirmed repos are backfilled.

Its peers. A source that is slow is waited for; one that is silent, wrong or gone is left
(StreamBroken) and connected to again after a growing delay; after TRIES_A_SOURCE failures in a row
the next of STREAM_URLS is tried. Frames that cannot be read are counted, and open a gap. A database
that fails raises out of `run`: nothing goes on without it. LeaseLost does the same.

Bounds: one batch in memory, closed at BATCH_CHANGES changes or after BATCH_SECONDS.
"""

import logging
import random
import time
from dataclasses import dataclass
from threading import Event as StopEvent
from urllib.parse import urlsplit

from server.core.backoff import delay_s
from server.core.errors import BadFrame, StreamBroken
from server.core.events import Account, Commit, Event, Identity, Info, Sync
from server.core.metrics import IngestMetrics
from server.core.projection import project_op
from server.ingest.relay import SourceError, decode_frame
from server.ingest.tracked import TrackedSet
from server.ingest.websocket import read_stream
from server.storage import leases, repos
from server.storage.changes import (
    Batch,
    RepoCommit,
    StreamCursor,
    commit_batch,
    commit_gap,
    load_cursor,
)

log = logging.getLogger(__name__)

BATCH_CHANGES = 50000
# Half of what a reader may wait for a post to show, at the live rate of the network.
BATCH_SECONDS = 0.25
# How often the cursor moves when nothing of ours happens.
CURSOR_SECONDS = 1.0
# How often the tracked set is compared with the database.
REFRESH_SECONDS = 0.1
# How often a sign of life is written.
REPORT_SECONDS = 2.0

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
# A connection that held this long was healthy: the next failure starts with a short delay again.
HEALTHY_SECONDS = 30.0
TRIES_A_SOURCE = 4

# Relays do not say that a cursor is older than what they keep. They start at the oldest event, and
# that is later than the one we stored by more than any pause of a busy network.
OUTDATED_MS = 60_000
# How many events are compared: the time in one of them may be anybody's joke.
FIRST_EVENTS = 5


@dataclass(slots=True)
class _Health:
    """How the sources did lately."""

    failures: int = 0
    source: int = 0


class Subscriber:
    """One reader for as long as this process leads. `run` ends when `stop` is set, or raises."""

    def __init__(
        self,
        stream_urls: tuple[str, ...],
        user_agent: str,
        epoch: int,
        stop: StopEvent,
        metrics: IngestMetrics | None = None,
    ) -> None:
        self.stream_urls = stream_urls
        self.user_agent = user_agent
        self.epoch = epoch
        self.stop = stop
        self.metrics = metrics or IngestMetrics()
        self.tracked = TrackedSet()

    def run(self) -> None:
        """Read until stopped. Raises DatabaseError or LeaseLost."""
        self.tracked.refresh()
        health = _Health()
        while not self.stop.is_set():
            url = self.stream_urls[health.source % len(self.stream_urls)]
            began = time.monotonic()
            try:
                self._read(url)
            except StreamBroken as broken:
                self._wait(url, broken, health, time.monotonic() - began)

    def _read(self, url: str) -> None:
        host = urlsplit(url).netloc
        cursor = load_cursor(host)
        query = "" if cursor is None else f"?cursor={cursor.seq}"
        reading = _Reading(self, host, cursor)
        log.info("connecting source=%s cursor=%s", host, cursor and cursor.seq)
        try:
            read_stream(url + query, self.user_agent, reading)
        finally:
            leases.report(self.epoch, _now_us(), None)

    def _wait(self, url: str, broken: StreamBroken, health: _Health, lasted_s: float) -> None:
        if lasted_s > HEALTHY_SECONDS:
            health.failures = 0
        pause_s = delay_s(
            health.failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random
        )
        health.failures += 1
        if health.failures % TRIES_A_SOURCE == 0:
            health.source += 1
        host = urlsplit(url).netloc
        self.metrics.breaks.labels(host).inc()
        log.warning("stream broken source=%s retry_s=%.1f: %s", host, pause_s, broken)
        until = time.monotonic() + pause_s
        # The tracked set goes on being confirmed: with a cursor, nothing is lost meanwhile.
        while time.monotonic() < until and not self.stop.wait(REFRESH_SECONDS):
            self.tracked.refresh()
            if load_cursor(host) is not None:
                leases.confirm(self.epoch, self.tracked.version)


class _Reading:
    """One connection to a source: the batch at hand, and the place in the stream."""

    def __init__(self, owner: Subscriber, host: str, cursor: StreamCursor | None) -> None:
        self.owner = owner
        self.host = host
        self.stored = cursor
        self.seq = 0 if cursor is None else cursor.seq
        self.event_ms = 0 if cursor is None else cursor.event_ms
        self.first_events = 0
        self.is_next = False
        self.batch = Batch()
        self.changes = 0
        self.confirmed = -1
        self.connected_us = _now_us()
        now = time.monotonic()
        self.next_commit = now + CURSOR_SECONDS
        self.next_refresh = self.next_report = now

    def opened(self) -> None:
        log.info("connected source=%s", self.host)
        self.connected_us = _now_us()
        if self.stored is None and repos.is_anybody_tracked():
            # Nobody knows what this source said before we came.
            self._gap("no cursor", 0)

    def message(self, data: bytes | str) -> None:
        metrics = self.owner.metrics
        try:
            event = decode_frame(data, self.owner.tracked.wants)
        except BadFrame as bad:
            metrics.drops.labels("unreadable").inc()
            self._gap(f"undecodable frame: {bad}", self.event_ms)
            return
        except SourceError as error:
            if error.name == "FutureCursor":
                # The source has never said what our cursor stands for: its numbers are new.
                self._forget("future cursor")
            raise
        metrics.count_frame(type(event).__name__)
        if isinstance(event, Info):
            self._info(event)
            return
        # The time in an event is the word of whoever wrote it: it may be long ago, but not to come.
        time_ms = min(event.time_ms, _now_us() // 1000)
        if self.first_events < FIRST_EVENTS:
            self._compare_with_cursor(event.seq, time_ms)
        self.seq = max(self.seq, event.seq)
        self.event_ms = max(self.event_ms, time_ms)
        self._add(event, time_ms)
        if self.changes >= BATCH_CHANGES:
            self._commit()

    def tick(self) -> bool:
        now = time.monotonic()
        if now >= self.next_refresh:
            self.next_refresh = now + REFRESH_SECONDS
            self._refresh()
        if now >= self.next_commit and self.first_events:
            self._commit()
        if now >= self.next_report:
            self.next_report = now + REPORT_SECONDS
            leases.report(self.owner.epoch, _now_us(), self.connected_us)
        return not self.owner.stop.is_set()

    def _compare_with_cursor(self, seq: int, time_ms: int) -> None:
        """Look at the first events: they may not continue what we have."""
        self.first_events += 1
        if self.stored is None:
            self.first_events = FIRST_EVENTS
            return
        if self.first_events == 1:
            self.is_next = seq <= self.stored.seq + 1
            if seq < self.stored.seq:
                self._forget(f"numbers restarted at {seq}")
                return
        if not self.is_next and time_ms - self.stored.event_ms > OUTDATED_MS:
            self.first_events = FIRST_EVENTS
            self._gap("cursor outdated", self.stored.event_ms, time_ms)

    def _info(self, event: Info) -> None:
        if event.name == "OutdatedCursor" and self.stored is not None:
            self._gap("cursor outdated", self.stored.event_ms)
        else:
            log.info("info of the source source=%s name=%s", self.host, event.name[:80])

    def _add(self, event: Event, time_ms: int) -> None:
        tracked = self.owner.tracked
        wants = tracked.wants
        match event:
            case Commit():
                changes = [project_op(op, time_ms) for op in event.ops]
                valid = [change for change in changes if change is not None]
                if len(valid) < len(changes):
                    self.owner.metrics.drops.labels("bad_record").inc(len(changes) - len(valid))
                kept = [change for change in valid if tracked.concerns(event.repo, change)]
                self.batch.commits.append(
                    RepoCommit(event.repo, event.rev, event.since, kept, event.hole)
                )
                self._grow(1 + len(kept))
            case Account() if event.repo in wants:
                self.batch.statuses[event.repo] = (event.active, event.status)
                self._grow(1)
            case Sync() if event.repo in wants:
                self.batch.resets.add(event.repo)
                self._grow(1)
            case Identity() if event.repo in wants:
                self.batch.identities.add(event.repo)
                self._grow(1)
            case _:
                pass

    def _grow(self, changes: int) -> None:
        if self.changes == 0:
            self.next_commit = min(self.next_commit, time.monotonic() + BATCH_SECONDS)
        self.changes += changes

    def _commit(self) -> None:
        """Save what there is, with the cursor that stands for it."""
        cursor = StreamCursor(self.host, self.seq, self.event_ms)
        if self.batch or self.stored is None or cursor.seq != self.stored.seq:
            began = time.monotonic()
            result = commit_batch(self.batch, cursor, self.owner.epoch, _now_us())
            self.owner.metrics.count_batch(
                time.monotonic() - began,
                result.saved,
                result.dropped,
                result.already_seen,
                len(result.holes),
            )
            for number, reason in result.holes.items():
                log.info("author to be fetched again author=%d reason=%s", number, reason)
            self.stored = cursor
            self.batch, self.changes = Batch(), 0
        self.next_commit = time.monotonic() + CURSOR_SECONDS

    def _refresh(self) -> None:
        """Take new repos in, and say so: whatever is emitted from now on is read with them."""
        tracked = self.owner.tracked
        tracked.refresh()
        if tracked.version != self.confirmed:
            leases.confirm(self.owner.epoch, tracked.version)
            self.confirmed = tracked.version

    def _forget(self, reason: str) -> None:
        """The stored cursor is of no use here any more."""
        stored_ms = 0 if self.stored is None else self.stored.event_ms
        self._gap(reason, stored_ms)
        self.seq = 0

    def _gap(self, reason: str, from_ms: int, to_ms: int | None = None) -> None:
        """Write a hole down before anything after it is saved."""
        now_us = _now_us()
        if self.batch:
            self._commit()
        until_ms = now_us // 1000 if to_ms is None else to_ms
        commit_gap(self.host, reason, from_ms, until_ms, self.owner.epoch, now_us)
        self.owner.metrics.gaps_opened.labels("everybody").inc()
        # The cursor went with the hole: the next commit writes one, events or not.
        self.stored = None
        log.warning("gap opened source=%s reason=%s", self.host, reason)


def _now_us() -> int:
    return time.time_ns() // 1000
