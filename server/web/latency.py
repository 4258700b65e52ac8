"""How fast feeds are answered: read from what is counted anyway.

Of the web processes of this machine, since they started. The client library adds their numbers up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from server.core.metrics import REQUEST_BUCKETS, WebMetrics

_ENDPOINT = "get_feed_skeleton"


@dataclass(frozen=True, slots=True)
class Latency:
    """`shares`: of pages of feeds, how many were answered within each of `within_s`, from 0 to 1.

    `median_s` and `p95_s` are the least of `within_s` that hold for so many; None: slower.
    """

    within_s: list[float]
    shares: list[float]
    median_s: float | None
    p95_s: float | None


def latency(metrics: WebMetrics, folder: str | None) -> Latency | None:
    """Of pages of feeds; None before the first. `folder`: where web processes share numbers."""
    counts = dict.fromkeys(REQUEST_BUCKETS, 0.0)
    total = 0.0
    for sample in _samples(metrics, folder):
        if sample.name.endswith("_count"):
            total += sample.value
        elif sample.name.endswith("_bucket") and sample.labels["le"] != "+Inf":
            counts[float(sample.labels["le"])] += sample.value
    if total == 0:
        return None
    shares = [round(counts[edge] / total, 2) for edge in REQUEST_BUCKETS]
    median_s, p95_s = (_least(counts, wanted * total) for wanted in (0.5, 0.95))
    return Latency(list(REQUEST_BUCKETS), shares, median_s, p95_s)


def _samples(metrics: WebMetrics, folder: str | None) -> Iterator[Sample]:
    registry = metrics.registry
    if folder is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    for family in registry.collect():
        if family.name == "gapless_http_request_seconds":
            yield from (one for one in family.samples if one.labels["endpoint"] == _ENDPOINT)


def _least(counts: dict[float, float], wanted: float) -> float | None:
    return next((edge for edge, count in counts.items() if count >= wanted), None)
