"""Charts and latencies: drawn from numbers alone."""

import pytest
from prometheus_client import generate_latest

from server.core.metrics import IngestMetrics, WebMetrics
from server.web.charts import HEIGHT, WIDTH, bars, line
from server.web.latency import latency
from server.web.streams import Stream, streams_of

S = 1_000_000


def test_a_line_runs_from_left_to_right_and_up_to_its_highest_value():
    chart = line([(0, 0.0), (30 * S, 5.0), (60 * S, 10.0)], 0, 60 * S, str)
    assert chart.path == f"M0.0 {HEIGHT - 2}h.1L120.0 24.0L{WIDTH} 2.0"
    assert chart.said == "lowest 0.0, highest 10.0, last 10.0"


def test_what_nobody_measured_is_not_drawn():
    chart = line([(0, 1.0), (10 * S, 1.0), (600 * S, 1.0)], 0, 600 * S, str)
    assert (chart.path.count("M"), chart.path.count("L")) == (2, 1)
    assert line([], 0, S, str) is None


def test_a_line_of_noughts_lies_on_the_ground():
    assert line([(0, 0.0), (S, 0.0)], 0, S, str).path.count(f" {HEIGHT - 2}") == 2


def test_bars_are_the_parts_of_a_whole():
    drawn = bars([0.5, 0.75, 0.75], ["1 s", "2 s", "3 s"])
    assert [(bar.label, bar.share) for bar in drawn] == [
        ("1 s", 0.5),
        ("2 s", 0.25),
        ("3 s", 0.0),
        ("more", 0.25),
    ]
    assert max(bar.height for bar in drawn) < HEIGHT
    assert drawn[-1].x + drawn[-1].width < WIDTH


def test_latency_is_of_pages_of_feeds_alone():
    metrics = WebMetrics()
    assert latency(metrics, None) is None
    metrics.request_seconds.labels("home", "").observe(4.0)
    assert latency(metrics, None) is None
    for seconds in (0.004, 0.004, 0.02, 9.0):
        metrics.request_seconds.labels("get_feed_skeleton", "following").observe(seconds)
    found = latency(metrics, None)
    assert (found.median_s, found.p95_s) == (0.005, None)
    assert found.shares[:3] == [0.5, 0.5, 0.75]
    assert found.shares[-1] == pytest.approx(0.75)


def test_a_time_that_fewer_pages_took_is_not_that_of_95_in_100():
    metrics = WebMetrics()
    taken = metrics.request_seconds.labels("get_feed_skeleton", "following")
    for number in range(1000):
        taken.observe(0.004 if number < 946 else 3.0)
    found = latency(metrics, None)
    assert (found.median_s, found.p95_s) == (0.005, 5.0)


def test_what_happened_on_each_source_is_read_from_what_the_leader_left():
    metrics = IngestMetrics()
    for kind in ("cut", "dns"):
        metrics.breaks.labels("a", kind).inc(2)
    metrics.source_changes.inc(3)
    metrics.connected.labels("a").set(0)
    metrics.connected.labels("b").set(1)
    for outcome, count in (("first", 10), ("late", 1985), ("missing", 4)):
        metrics.hedged_events.labels("b", outcome).inc(count)

    def left():
        return streams_of(generate_latest(metrics.registry).decode())

    assert left() == ({"a": Stream(breaks=4), "b": Stream(True, 0, 1999, 4)}, 3)
    assert streams_of("") == ({}, 0)


def test_a_share_that_a_source_lost_is_told_when_it_is_not_one_authors():
    assert Stream(compared=1999, missing=1999).share_lost is None
    assert Stream(compared=2000, missing=9).share_lost == 0.0
    assert Stream(compared=2000, missing=19).share_lost == 0.005
    assert Stream(compared=2000, missing=20).share_lost == 0.01
