"""How things stand, as anybody may know it: what `/`, `/status` and `/status.json` show.

Counts of accounts, and of what concerns single accounts, are rounded down to two digits and to
nought below ten. An exact one tells more than it seems to: follow somebody whom nobody here
follows, look whether the number of authors moves, and you know who follows you through Gapless.
Times and spans are shown of gaps of everybody, never of one author's. Nobody is named: no account,
no host but the sources, no words of strangers' servers. The operator's `status` has the rest.

Bounds: looked up at most once in FRESH_SECONDS for each process, however many ask; nothing more is
asked of the database once that takes LOOK_SECONDS. One thread looks, and no other waits for it, as
feeds need them: they are given what was found before, or are told that nothing can be told yet.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.core.metrics import WebMetrics
from server.storage import exported_metrics, gaps, history, leases, ledger, overview, readings
from server.storage.database import DatabaseError
from server.storage.history import Sample
from server.storage.ledger import Completeness, Window
from server.storage.readings import Readings
from server.web.latency import Latency, latency
from server.web.streams import Stream, streams_of

FRESH_SECONDS = 10.0
# For all that one look asks. People wait longer than the AppView.
LOOK_SECONDS = 20.0
SHOWN_GAPS = 10
# Sources that were read once and are not any more stay in the table.
SHOWN_SOURCES = 5


@dataclass(frozen=True, slots=True)
class Source:
    """A stream. `is_read`: now, by the leader. `breaks`: of its connection, in this lead.

    `share_lost`: of what sources beside it told, in this lead, to half a percent; None if it is
    read alone, or too little was told for that.
    """

    host: str
    is_read: bool
    lag_s: float
    saved_us: int
    breaks: int
    share_lost: float | None


@dataclass(frozen=True, slots=True)
class Queue:
    """Repos waiting to be fetched, about."""

    name: str
    about_waiting: int
    about_failing: int


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A span of which we might have missed anybody's events, until everybody is fetched again."""

    host: str | None
    reason: str
    from_ms: int
    to_ms: int
    opened_us: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One of the last hour. `events_each_s` is None where nobody counted just before."""

    at_us: int
    lag_ms: int | None
    events_each_s: float | None
    about_waiting: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything at `now_us`. Fields that begin with `about_` are rounded, see above.

    `problem` is None while the stream is read. `share_complete` is of the authors who are not away
    (0 to 1), `about_incomplete` counts those of whom something may be missing, by reason (WHY in
    storage/ledger.py). `since_us` to `until_us` is what is vouched for of the others.
    `source_changes`: how often another source was taken instead, in this lead.
    """

    version: str
    now_us: int
    problem: str | None
    lag_s: float | None
    events_each_s: float | None
    about_authors: int
    share_complete: float
    about_incomplete: dict[str, int]
    since_us: int | None
    until_us: int | None
    about_viewers: int
    about_viewers_of_today: int
    about_items: int
    about_database_bytes: int
    sources: list[Source]
    source_changes: int
    queues: list[Queue]
    gaps_of_everybody: list[OpenGap]
    about_gaps_of_authors: int
    latency: Latency | None
    history: list[Moment]


class Standings:
    """The last look, shared by the threads of a process. `look` may raise DatabaseError."""

    def __init__(
        self,
        look: Callable[[], Standing],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[float, Standing] | None = None

    def get(self) -> Standing:
        """How things stand, FRESH_SECONDS old at most, or a little more while somebody looks.

        Raises DatabaseError also where somebody looks for the first time.
        """
        last = self._last
        if last is not None and self._monotonic() - last[0] < FRESH_SECONDS:
            return last[1]
        if not self._lock.acquire(blocking=False):
            if last is None:
                raise DatabaseError("the first look at how things stand is under way")
            return last[1]
        try:
            current = self._last
            if current is None or self._monotonic() - current[0] >= FRESH_SECONDS:
                current = self._last = (self._monotonic(), self._look())
            return current[1]
        finally:
            self._lock.release()


def look(
    version: str, window: Window, metrics: WebMetrics, folder: str | None, now_us: int
) -> Standing:
    """Look at everything now. Raises DatabaseError."""
    now = readings.read(now_us)
    problem = leases.trouble(now_us)
    found = ledger.of_everybody(window, 0)
    samples = history.samples(now_us - history.KEPT_SECONDS * 1_000_000)
    moments = _moments(samples)
    sources, source_changes = _sources(now_us, is_read=problem is None)
    return Standing(
        version=version,
        now_us=now_us,
        problem=None if problem is None else _in_public(problem),
        lag_s=None if now.event_ms is None else _lag_s(now_us, now.event_ms),
        events_each_s=moments[-1].events_each_s if moments and problem is None else None,
        about_authors=about(found.authors),
        share_complete=share(found),
        # A reason that holds for fewer than ten is not named: that it is there would say enough.
        about_incomplete={why: about(n) for why, n in found.counts.items() if about(n)},
        since_us=_whole_hour(found.since_us),
        until_us=found.until_us,
        about_viewers=about(now.viewers),
        about_viewers_of_today=about(now.viewers_of_today),
        about_items=about(samples[-1].items) if samples else 0,
        about_database_bytes=about(now.database_bytes),
        sources=sources,
        source_changes=source_changes,
        queues=_queues(now),
        gaps_of_everybody=[
            OpenGap(gap.host, gap.reason, gap.from_ms, gap.to_ms, gap.opened_us)
            for gap in gaps.open_gaps(SHOWN_GAPS, of_everybody=True)
        ],
        about_gaps_of_authors=about(now.gaps.get("author", (0, 0))[0]),
        latency=latency(metrics, folder),
        history=moments,
    )


def about(count: int) -> int:
    """The count to two digits, rounded down; 0 stands for anything below ten."""
    step = max(10, int(10 ** (len(str(count)) - 2)))
    return count // step * step


def share(found: Completeness) -> float:
    """The share of complete authors, of those not away, rounded down; a handful does not show."""
    away = found.counts.get(ledger.AWAY, 0)
    incomplete = about(sum(found.counts.values()) - away)
    authors = max(about(found.authors - away), incomplete, 1)
    return (authors - incomplete) * 100 // authors / 100


def _whole_hour(since_us: int | None) -> int | None:
    """The next full hour: to the microsecond, it would be the time of one author's record."""
    hour_us = 3_600_000_000
    return None if since_us is None else -(-since_us // hour_us) * hour_us


def _moments(samples: Sequence[Sample]) -> list[Moment]:
    rates = dict(history.frames_each_second(samples))
    return [
        Moment(one.at_us, one.lag_ms, rates.get(one.at_us), about(one.waiting)) for one in samples
    ]


def _in_public(problem: str) -> str:
    # How long it has been silent changes with every look, and is not what a reader asks.
    return "nobody reads the stream" if "silent" in problem else problem


def _lag_s(now_us: int, event_ms: int) -> float:
    return round(max(0.0, now_us / 1e6 - event_ms / 1e3), 1)


def _sources(now_us: int, *, is_read: bool) -> tuple[list[Source], int]:
    """The sources that were read last, and how often there was a change of them."""
    left = exported_metrics.load()
    streams, changes = streams_of("" if left is None else left[0])
    found = []
    for one in overview.sources()[:SHOWN_SOURCES]:
        stream = streams.get(one.host, Stream())
        found.append(
            Source(
                host=one.host,
                is_read=is_read and stream.is_read,
                lag_s=_lag_s(now_us, one.event_ms),
                saved_us=one.written_us,
                breaks=stream.breaks,
                share_lost=stream.share_lost,
            )
        )
    return found, changes


def _queues(now: Readings) -> list[Queue]:
    """The queue in the words of readers, to whom it is one thing how urgent a newest page is."""
    kinds = {
        "whom new viewers follow": ("viewer_follows",),
        "newest pages of authors": ("newest_page", "newest_of_many"),
        "older pages of authors": ("older_pages",),
    }
    found = []
    for name, parts in kinds.items():
        failing = sum(now.queue[part, "failing"] for part in parts)
        waiting = failing + sum(now.queue[part, "waiting"] for part in parts)
        found.append(Queue(name, about(waiting), about(failing)))
    return found
