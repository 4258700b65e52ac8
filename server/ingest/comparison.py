"""What sources that are read together tell of each other: who loses events, and who is late.

Every record of a tracked author that anybody tells is looked at again JUDGE_SECONDS later. A source
that was connected all the time, has read past that moment, and did not tell it, has lost it. One
that was away, or is still catching up, is not judged. The counts go to the sources' counters and
to the metrics, and each REPORT_SECONDS a line of each source to the log: a warning if it lost
something.

Bound: JUDGE_SECONDS of tracked authors' records.
"""

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from server.core.events import Commit, RecordOp
from server.core.metrics import FIRST, LATE, MISSING, IngestMetrics
from server.ingest.counters import SourceCounters

log = logging.getLogger(__name__)

# Longer than one healthy source is behind another.
JUDGE_SECONDS = 30.0
REPORT_SECONDS = 60.0
# A source has read past a moment when its events are this much later: clocks differ.
PAST_MS = 5_000


@dataclass(slots=True)
class _Told:
    first: str
    first_s: float
    event_ms: int
    tellers: set[str] = field(default_factory=set)


class Comparison:
    """Compares the sources of a group. Times are monotonic, but for `*_ms`."""

    def __init__(
        self, counters: Mapping[str, SourceCounters], metrics: IngestMetrics, now_s: float
    ) -> None:
        self.counters = counters
        # All of them from the beginning: a rate of what appears with its first event misses that.
        self.outcomes = {
            (name, outcome): metrics.hedged_events.labels(name, outcome)
            for name in counters
            for outcome in (FIRST, LATE, MISSING)
        }
        self.delays = {name: metrics.hedged_delay.labels(name) for name in counters}
        self.told: dict[tuple[str, int, str, str], _Told] = {}
        # Since when each source that stands has been connected.
        self.connected_s: dict[str, float] = {}
        self.next_report_s = now_s + REPORT_SECONDS
        self.reported = {
            name: (one.told, one.missing, one.late_ms) for name, one in counters.items()
        }

    def connected(self, source: str, now_s: float) -> None:
        """The source begins to tell."""
        self.connected_s[source] = now_s

    def ended(self, source: str) -> None:
        """The source is away: what it does not tell now is no loss."""
        self.connected_s.pop(source, None)

    def hear(self, source: str, commit: Commit, now_s: float, news: Container[RecordOp]) -> None:
        """Note who told the records of a commit. `news`: those that nobody told, for certain.

        What was told and judged is not judged again, when one that is far behind tells it.
        """
        for op in commit.ops:
            key = (commit.repo, commit.rev, op.collection, op.rkey)
            told = self.told.get(key)
            if told is None and op in news:
                told = self.told[key] = _Told(source, now_s, commit.time_ms)
            if told is not None and source not in told.tellers:
                told.tellers.add(source)
                if source != told.first:
                    late_s = now_s - told.first_s
                    self.counters[source].late_ms += int(late_s * 1000)
                    self.delays[source].observe(late_s)

    def judge(self, event_ms: Mapping[str, int], now_s: float) -> None:
        """Count what is old enough; `event_ms` is how far each source has read."""
        while self.told:
            key, told = next(iter(self.told.items()))
            if now_s - told.first_s < JUDGE_SECONDS:
                break
            del self.told[key]
            for name, counters in self.counters.items():
                if name in told.tellers:
                    counters.told += 1
                    self.outcomes[name, FIRST if name == told.first else LATE].inc()
                elif self._should_have_told(name, told, event_ms.get(name, 0)):
                    counters.missing += 1
                    self.outcomes[name, MISSING].inc()
        if now_s >= self.next_report_s:
            self.next_report_s = now_s + REPORT_SECONDS
            self._report()

    def _should_have_told(self, name: str, told: _Told, event_ms: int) -> bool:
        connected_s = self.connected_s.get(name)
        is_past = event_ms > told.event_ms + PAST_MS
        return connected_s is not None and connected_s < told.first_s and is_past

    def _report(self) -> None:
        for name, one in self.counters.items():
            told, missing, late_ms = (
                now - before
                for now, before in zip(
                    (one.told, one.missing, one.late_ms), self.reported[name], strict=True
                )
            )
            self.reported[name] = (one.told, one.missing, one.late_ms)
            mean_ms = late_ms / max(told, 1)
            if missing:
                percent = 100 * missing / (told + missing)
                log.warning(
                    "source loses events source=%s missing=%d percent=%.2f told=%d late_ms=%.0f:"
                    " the sources beside it told what it did not",
                    *(name, missing, percent, told, mean_ms),
                )
            else:
                log.info("source tells all source=%s told=%d late_ms=%.0f", name, told, mean_ms)
