"""The batch at hand: what the events mean, until it is committed with the cursors it stands for.

One writer serves one source, or several that are read together (merge.py). Everything happens in
the one thread that reads, so nothing is locked; while a batch commits, nothing is read. A database
that stands still is waited for, and another thread says so (storage/stalls.py).

Bounds: a batch is closed at BATCH_CHANGES changes or after BATCH_SECONDS. A word on an account
counts for WORD_CHANGES: each may begin a part of the batch (storage/batch.py).
"""

import logging
import time
from collections.abc import Sequence

from server.core.events import Account, Commit, Event, Identity, Sync
from server.core.metrics import IngestMetrics
from server.core.projection import Change, project_op
from server.core.syntax import tid_us
from server.ingest.merge import Merge
from server.ingest.place import Place
from server.ingest.tracked import TrackedSet
from server.storage.batch import Batch, RepoCommit
from server.storage.changes import commit_batch, commit_gap
from server.storage.cursors import StreamCursor
from server.storage.stalls import DatabaseWait

log = logging.getLogger(__name__)

BATCH_CHANGES = 5_000
# A part takes a dozen statements, and the versions of repos are locked until the last one is saved.
WORD_CHANGES = 50
# Half of what a reader may wait for a post to show, at the live rate of the network.
BATCH_SECONDS = 0.25
# How often the cursor moves when nothing of ours happens.
CURSOR_SECONDS = 1.0
# How far ahead a commit may claim to have been made. Relays draw the same line.
MAX_AHEAD_MS = 300_000


class BatchWriter:
    """Takes events in, and commits. `merge` is there when several sources tell the same.

    `wait`: where its thread notes since when it waits for the database.
    """

    def __init__(
        self,
        tracked: TrackedSet,
        epoch: int,
        metrics: IngestMetrics,
        merge: Merge | None = None,
        wait: DatabaseWait | None = None,
    ) -> None:
        self.tracked = tracked
        self.epoch = epoch
        self.metrics = metrics
        self.merge = merge
        self.wait = wait or DatabaseWait("stream")
        self.places: dict[str, Place] = {}
        self.batch = Batch()
        self.changes = 0
        self.next_commit = time.monotonic() + CURSOR_SECONDS

    def add(self, place: Place, event: Event, time_ms: int) -> None:
        """Take an event in; `time_ms` is when it happened, but never to come."""
        name, now_ms = place.source.name, time.time_ns() // 1_000_000
        if isinstance(event, Commit) and _is_to_come(event.rev, place, now_ms):
            # Believed, it would make us deaf to every commit of the repo until then.
            event = Sync(event.seq, event.time_ms, event.repo)
        merge = self.merge
        if merge is not None and not merge.is_new(name, event, time.monotonic(), now_ms):
            return
        wants = self.tracked.wants
        match event:
            case Commit():
                self._add_commit(place, event, time_ms)
            case Account() if event.repo in wants:
                self.batch.add_status(event.repo, event.active, event.status)
                self._grow(WORD_CHANGES)
            case Sync() if event.repo in wants:
                if self.merge is not None:
                    self.merge.let_go(event, self.batch)
                # Revs have the time of its host, which may be ahead of ours.
                self.batch.add_sync(event.repo, event.rev, event.time_ms)
                self._grow(WORD_CHANGES)
            case Identity() if event.repo in wants:
                self.batch.identities.add(event.repo)
                self._grow(1)
            case _:
                pass

    def _add_commit(self, place: Place, event: Commit, time_ms: int) -> None:
        # Most commits of whoever is tracked are likes: only their place in the chain counts.
        kept = self._changes(event, time_ms) if event.ops else ()
        commit = RepoCommit(event.repo, event.rev, event.since, kept, event.hole)
        if self.merge is None:
            self.batch.add_commit(commit)
        else:
            reached_ms = place.event_ms(time.time_ns() // 1_000_000)
            self.merge.hold(place.source.name, event, commit, time.monotonic(), reached_ms)
        self._grow(1 + len(kept))

    def _changes(self, event: Commit, time_ms: int) -> Sequence[Change]:
        """What the ops of a commit mean, as far as it is for us."""
        changes = [(project_op(op, time_ms), op.is_edit) for op in event.ops]
        valid = [(change, is_edit) for change, is_edit in changes if change is not None]
        if len(valid) < len(changes):
            self.metrics.drops.labels("bad_record").inc(len(changes) - len(valid))
        concerns = self.tracked.concerns
        return [change for change, edit in valid if concerns(event.repo, change, is_edit=edit)]

    def _grow(self, changes: int) -> None:
        if self.changes == 0:
            self.next_commit = min(self.next_commit, time.monotonic() + BATCH_SECONDS)
        self.changes += changes

    def is_due(self) -> bool:
        """Whether it is time to commit."""
        return self.changes >= BATCH_CHANGES or time.monotonic() >= self.next_commit

    def commit(self) -> None:
        """Save what there is, with the cursors that stand for it."""
        now_us = time.time_ns() // 1000
        if self.merge is not None:
            reached = {name: one.event_ms(now_us // 1000) for name, one in self.places.items()}
            with self.wait.under_way():
                self.merge.release(self.batch, time.monotonic(), max(reached.values()))
            self.merge.comparison.judge(reached, time.monotonic())
        cursors = self._cursors(now_us // 1000)
        moved = [one for one in cursors if self._has_moved(one)]
        if self.batch or moved:
            first, *beside = moved or [one for one in cursors if self.places[one.host].has_read]
            began = time.monotonic()
            with self.wait.under_way():
                result = commit_batch(self.batch, first, self.epoch, now_us, beside=beside)
            self.metrics.count_batch(
                time.monotonic() - began,
                result.saved,
                result.dropped,
                result.already_seen,
                len(result.holes),
            )
            for number, reason in result.holes.items():
                log.info("author to be fetched again author=%d reason=%s", number, reason)
            for cursor in moved:
                self.places[cursor.host].stored = cursor
            self.batch = Batch()
        self.changes = 0
        is_holding = self.merge is not None and self.merge.held
        pause_s = BATCH_SECONDS if is_holding else CURSOR_SECONDS
        self.next_commit = time.monotonic() + pause_s

    def _cursors(self, now_ms: int) -> list[StreamCursor]:
        """What may be saved of each source, with what still waits in hand."""
        merge = self.merge
        if merge is None:
            return [place.cursor(now_ms) for place in self.places.values()]
        held_ms = merge.held_ms()
        return [
            place.cursor(now_ms, merge.held_seq(name), held_ms)
            for name, place in self.places.items()
        ]

    def _has_moved(self, cursor: StreamCursor) -> bool:
        place = self.places[cursor.host]
        if not place.has_read or place.stored is None:
            return place.has_read
        # A source that counts time may have named one to come, and is asked by the other anyway.
        is_later = place.source.counts_time and cursor.event_ms > place.stored.event_ms
        return is_later or cursor.seq != place.stored.seq

    def is_covered(self) -> bool:
        """Whether some source is being told: it needs nobody else's past."""
        return any(place.is_told for place in self.places.values())

    def gap(self, place: Place, reason: str, from_ms: int, to_ms: int | None = None) -> None:
        """Write a hole down before anything after it is saved."""
        if self.batch:
            self.commit()
        now_us = time.time_ns() // 1000
        until_ms = now_us // 1000 if to_ms is None else to_ms
        name = place.source.name
        with self.wait.under_way():
            commit_gap(name, reason, from_ms, until_ms, self.epoch, now_us)
        self.metrics.gaps_opened.labels("everybody").inc()
        # The cursor went with the hole: the next commit writes one, events or not.
        place.stored = None
        log.warning("gap opened source=%s reason=%s", name, reason)


def _is_to_come(rev: int, place: Place, now_ms: int) -> bool:
    """Whether a commit is of a time that is still to come, by our clock and by its source's."""
    latest_ms = tid_us(rev) // 1000 - MAX_AHEAD_MS
    return latest_ms > now_ms and latest_ms > place.told_ms()
