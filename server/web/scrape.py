"""All metrics on one page: of the web processes here, of the leader, and of the database.

The web processes of one gunicorn share a folder of small files, in which the client library keeps
their numbers and adds them up. The leader, which may run elsewhere, leaves its own in the database.
What the database knows (queues, gaps, the cursor) is read when somebody asks, and each replica
is looked at, for a second at most. With several web machines each shows the leader's numbers and
the database's: ask for `max` of those, not `sum`.

A database that does not answer costs its part of the page only: `gapless_database_up` is 0 then.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from server.core.metrics import WebMetrics
from server.storage import exported_metrics, leases, readings
from server.storage.allowance import allowed
from server.storage.database import DatabaseError
from server.storage.readings import Readings
from server.storage.replica_connection import BUSY
from server.storage.replicas import Replicas, ReplicaState

log = logging.getLogger(__name__)

# A leader says something every 5 s. After this long its numbers are history, and shown no more.
STALE_SECONDS = 60
# For all that the database is asked. Prometheus waits 10 s, unless it is told otherwise.
LOOK_SECONDS = 10.0


def page(metrics: WebMetrics, folder: Path | None, version: str, replicas: Replicas) -> bytes:
    """The metrics as text. `folder`: where the web processes share their numbers, if they do."""
    registry = CollectorRegistry()
    if folder is None:
        registry.register(metrics.registry)
    else:
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_FromDatabase(time.time_ns() // 1000, version, replicas))
    return generate_latest(registry)


class _FromDatabase(Collector):
    """What the database says, and what the leader left there."""

    def __init__(self, now_us: int, version: str, replicas: Replicas) -> None:
        self.now_us = now_us
        self.version = version
        self.replicas = replicas

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("gapless", "The version that answers.")
        info.add_metric((), {"version": self.version})
        yield info
        up = "Whether the database answered this scrape."
        try:
            with allowed(LOOK_SECONDS):
                families = [
                    *gauges(readings.read(self.now_us), self.now_us),
                    *of_replicas(self.replicas.look()),
                    *self._left_by_leader(),
                ]
        except DatabaseError as error:
            log.warning("metrics without the database: %s", error)
            yield GaugeMetricFamily("gapless_database_up", up, 0)
            return
        yield GaugeMetricFamily("gapless_database_up", up, 1)
        yield from families

    def _left_by_leader(self) -> list[Metric]:
        left = exported_metrics.load()
        if left is None or self.now_us - left[1] > STALE_SECONDS * 1_000_000:
            return []
        families = text_string_to_metric_families(left[0])
        # The library says of each when it was created, which nobody asks for.
        return [family for family in families if not family.name.endswith("_created")]


def gauges(now: Readings, now_us: int) -> Iterator[Metric]:
    """The readings in the library's form. Ages are never negative, whoever's clock is wrong."""
    leader = now.leader
    is_led = leader is not None and not leases.is_silent(leader, now_us)
    is_connected = is_led and leader is not None and leader.connected_us is not None
    yield _gauge("gapless_leader", "Whether an ingest process leads.", is_led)
    yield _gauge("gapless_stream_connected", "Whether the leader reads a source.", is_connected)
    if now.event_ms is not None:
        lag_s = max(0.0, now_us / 1e6 - now.event_ms / 1e3)
        yield _gauge("gapless_stream_lag_seconds", "Age of the newest event saved.", lag_s)
    yield _family(
        "gapless_backfill_queue",
        "Repos waiting to be fetched, by what is next, and whether that failed the last time.",
        ("kind", "state"),
        now.queue,
    )
    scopes = ("everybody", "author")
    open_gaps = {(scope,): now.gaps.get(scope, (0, 0))[0] for scope in scopes}
    yield _family("gapless_gaps_open", "Gaps that have not healed.", ("scope",), open_gaps)
    ages_s = {
        (scope,): max(0.0, (now_us - now.gaps[scope][1]) / 1e6) if scope in now.gaps else 0.0
        for scope in scopes
    }
    oldest = "Age of the oldest gap that has not healed; 0 without one."
    yield _family("gapless_gap_oldest_seconds", oldest, ("scope",), ages_s)
    states = {(state,): now.repos.get(state, 0) for state in readings.STATES.values()}
    yield _family("gapless_repos", "Repos known, by how complete they are.", ("state",), states)
    yield _gauge("gapless_viewers", "Accounts that have opened a feed.", now.viewers)
    today = "Accounts that have opened a feed in the last 24 hours."
    yield _gauge("gapless_viewers_active", today, now.viewers_of_today)
    size = "Size of the database, the write-ahead log of SQLite included."
    yield _gauge("gapless_database_bytes", size, now.database_bytes)
    if now.disk is not None:
        yield _gauge("gapless_disk_bytes", "Size of the disk with the database.", now.disk[0])
        yield _gauge("gapless_disk_free_bytes", "Free on that disk.", now.disk[1])


def of_replicas(states: list[ReplicaState]) -> Iterator[Metric]:
    """Each replica as this process has just found it."""
    usable = {(state.name,): state.problem in (None, BUSY) for state in states}
    lags = {(one.name,): one.lag_bytes for one in states if one.lag_bytes is not None}
    about = "Whether pages can be read from the replica now."
    yield _family("gapless_replica_usable", about, ("replica",), usable)
    behind = "What the replica had not replayed of the primary's log; none where it does not tell."
    yield _family("gapless_replica_lag_bytes", behind, ("replica",), lags)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _family(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
