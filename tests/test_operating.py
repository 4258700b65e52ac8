"""The operating guide, the alert rules and the dashboard name what there is, all of it, no more."""

import dataclasses
import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from server.core.config import DEFAULTS
from server.core.metrics import IngestMetrics, WebMetrics
from server.storage import readings
from server.storage.replicas import Replicas, ReplicaState
from server.web.scrape import _FromDatabase, of_replicas
from server.web.standing import Standing
from tests.builders import NOW_US

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "operating.md").read_text()
MONITORING = ROOT / "deploy" / "monitoring"
METRIC = re.compile(r"\bgapless_\w+")


def metrics_of_processes():
    """What processes count: the name in a query, and its labels."""
    found = {}
    for counted in (WebMetrics(), IngestMetrics()):
        for collector in vars(counted).values():
            if isinstance(collector, CollectorRegistry):
                continue
            labels = getattr(collector, "_labelnames", None)
            if labels is not None:
                suffix = "_total" if collector._type == "counter" else ""
                found[collector._name + suffix] = set(labels)
    found["gapless_stream_frames_total"] = {"kind"}
    return found


def metrics_of_database(sqlite):
    found = {}
    replica = ReplicaState("replica:5432", None, "", 0)
    asked = _FromDatabase(NOW_US, "1", Replicas((), 1)).collect()
    for family in (*asked, *of_replicas([replica])):
        name = f"{family.name}_info" if family.type == "info" else family.name
        found[name] = {label for sample in family.samples for label in sample.labels}
    return found | {"gapless_stream_lag_seconds": set()}


def all_metrics(sqlite):
    return metrics_of_processes() | metrics_of_database(sqlite)


def table(heading):
    part = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.split("|")[1:-1] for line in part.splitlines() if line.startswith("| `")]


def base(name):
    """A histogram's name, of one of its series."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_every_metric_is_in_the_guide_with_its_labels(sqlite):
    told = {
        row[0].strip(" `"): {label for label in re.split(r",\s*", row[1].strip()) if label}
        for row in table("Watching")
    }
    assert told == all_metrics(sqlite)
    assert len(told) > 25


def test_rules_and_dashboard_ask_for_metrics_that_exist(sqlite):
    known = all_metrics(sqlite)
    for name in ("alerts.yml", "alerts.test.yml", "grafana.json"):
        asked = {base(metric) for metric in METRIC.findall((MONITORING / name).read_text())}
        assert asked
        assert asked <= known.keys(), name


def test_the_dashboard_shows_every_metric(sqlite):
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    asked = {
        base(metric)
        for panel in panels
        for target in panel["targets"]
        for metric in METRIC.findall(target["expr"])
    }
    assert all_metrics(sqlite).keys() <= asked
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len(places)


def test_labels_in_queries_are_labels_of_the_metric(sqlite):
    known = all_metrics(sqlite)
    text = (MONITORING / "alerts.yml").read_text() + (MONITORING / "grafana.json").read_text()
    used = re.findall(r"(gapless_\w+)\{([^}]*)\}", text.replace('\\"', '"'))
    assert used
    for metric, matchers in used:
        labels = set(re.findall(r"(\w+)(?:=|!)", matchers)) - {"le"}
        assert labels <= known[base(metric)], metric


def test_every_alert_is_in_the_guide_and_tested():
    alerts = set(re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
    assert {row[0].strip(" `") for row in table("Alerts")} == alerts
    tests = (MONITORING / "alerts.test.yml").read_text()
    assert all(tests.count(f"alertname: {alert}") == 2 for alert in alerts)


def test_every_setting_is_in_the_guide():
    told = {name for row in table("Settings") for name in re.findall(r"`(\w+)`", row[0])}
    assert told == set(DEFAULTS)


def test_numbers_that_the_guide_calls_defaults_are_the_defaults():
    checked = 0
    for row in table("Settings"):
        names = re.findall(r"`(\w+)`", row[0])
        for name, default in zip(names, row[1].split(","), strict=False):
            if DEFAULTS[name].isdigit():
                assert default.strip() == DEFAULTS[name], name
                checked += 1
    assert checked > 8


def test_every_key_of_the_status_is_in_the_guide():
    told = {
        name for row in table("The pages for everybody") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert told == {field.name for field in dataclasses.fields(Standing)}


def test_values_of_labels_in_queries_are_ones_that_occur():
    text = (MONITORING / "alerts.yml").read_text()
    kinds = set(re.findall(r'state="(\w+)"', text))
    assert kinds <= {"waiting", "failing", *readings.STATES.values()}
