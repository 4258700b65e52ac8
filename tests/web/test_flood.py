"""Ten thousand made-up issuers at once, and a viewer whom we know: who notices the flood?"""

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from simnet import Network, PatientClock
from tests.system.databases import SqliteFile
from tests.system.service import ROOT
from tests.web.conftest import SKELETON, Site, make_site

pytestmark = [pytest.mark.slow, pytest.mark.attack("made-up issuers")]

MADE_UP = 10_000
# Before, and after.
CALM_REQUESTS = 200
# What the known viewer may wait at the 99th percentile. Seconds.
PROMISED_P99 = 0.05


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("flood")
    with Network(seed=23, pds=2, clock=PatientClock()) as net:
        site = make_site(net, SqliteFile(folder / "feeds.db"), folder, WEB_WORKERS="2")
        try:
            site.service.start()
            site.reader.settle(site.viewer)
            yield site
            assert "Traceback" not in site.service.log_path.read_text()
        finally:
            site.service.end()


class Known:
    """A viewer whom we know, on a connection that is kept, every now and then."""

    def __init__(self, site: Site, target: str) -> None:
        self.site, self.target = site, target
        self.connection = http.client.HTTPConnection("127.0.0.1", site.service.port, timeout=30)

    def ask(self) -> float:
        """How long one page took."""
        headers = {"Authorization": self.site.token()}
        began = time.perf_counter()
        self.connection.request("GET", self.target, headers=headers)
        response = self.connection.getresponse()
        body = response.read()
        taken = time.perf_counter() - began
        assert response.status == 200
        assert len(json.loads(body)["feed"]) == 30
        time.sleep(0.01)
        return taken


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def usual_p99(times: list[float]) -> float:
    """The median of those of 100 pages each: one bad second of the machine does not count."""
    windows = [times[start : start + 100] for start in range(0, len(times) - 99, 100)]
    return statistics.median(p99(window) for window in windows)


def in_words(times: list[float]) -> str:
    median = statistics.median(times)
    return (
        f"{median * 1000:.1f} ms (median), {p99(times) * 1000:.1f} ms (p99) for {len(times)} pages"
    )


def test_a_flood_of_made_up_issuers_lets_nobody_in_and_delays_nobody(
    flooded: Site, report: Callable[[str], None]
) -> None:
    query = "limit=30&feed=" + quote(flooded.reader.uri(), safe="")
    target = f"{SKELETON}?{query}"
    known = Known(flooded, target)
    calm = [known.ask() for _ in range(CALM_REQUESTS)]
    plc_before = flooded.net.plc.requests.total()
    command = [sys.executable, "-m", "tests.web.flood", str(flooded.service.port), target]
    began = time.monotonic()
    flood = subprocess.Popen(
        [*command, flooded.service.did, str(MADE_UP)], cwd=ROOT, stdout=subprocess.PIPE
    )
    during = []
    while flood.poll() is None:
        during.append(known.ask())
    taken_s = time.monotonic() - began
    assert flood.stdout is not None
    statuses = json.loads(flood.stdout.read())
    flood.stdout.close()
    asked = flooded.net.plc.requests.total() - plc_before
    # The machine may have become busy with other things meanwhile, or free of them.
    calm += [known.ask() for _ in range(CALM_REQUESTS)]
    report(
        f"made-up issuers: {sum(statuses.values())} in {taken_s:.1f} s, answered {statuses}, looked"
        f" up {asked}, got in {statuses.get('200', 0)}; a known viewer waited {in_words(during)};"
        f" before and after: {in_words(calm)}"
    )
    known.connection.close()
    assert flood.returncode == 0
    assert sum(statuses.values()) == MADE_UP
    assert statuses.keys() <= {"401", "503"}
    # The budgets of two processes: what may come at once, and then a few each second.
    assert asked <= 2 * (50 + 10 * (taken_s + 1))
    assert len(during) > CALM_REQUESTS
    # On a machine that is busy with other things, pages are slow without any flood.
    assert usual_p99(during) < max(PROMISED_P99, 3 * usual_p99(calm))
