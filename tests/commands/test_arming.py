"""Crash points: each stands in the code once, costs nothing, and cannot be armed by accident."""

import re
import timeit
from collections import Counter
from pathlib import Path

import pytest

from server.storage import crash_points
from server.storage.crash_points import POINTS, VARIABLE, crash_point

SERVER = Path(crash_points.__file__).parents[1]


def test_each_point_stands_in_the_code_once():
    called = Counter()
    for path in SERVER.rglob("*.py"):
        called.update(re.findall(r'^ +crash_point\("([^"]+)"\)', path.read_text(), re.M))
    assert called == Counter(POINTS)


def test_a_point_that_is_not_armed_costs_nothing():
    # A hundredth of what the smallest transaction costs.
    assert timeit.timeit(lambda: crash_point(POINTS[0]), number=10_000) / 10_000 < 5e-6


@pytest.mark.parametrize("text", ["no such point", f"{POINTS[0]}#0", f"{POINTS[0]}#x"])
def test_what_is_no_point_or_no_count_is_refused(text):
    with pytest.raises(ValueError, match=r"no crash point|no count"):
        crash_points.arm(text)


def test_on_a_public_server_arming_ends_the_start(gapless, tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    done = gapless(url, "migrate", **{VARIABLE: "migrate: locked"})
    assert done.status == 2
    assert "is for tests" in done.err
    assert not (tmp_path / "x.db").exists()
    armed = {"ALLOW_PRIVATE_HOSTS": "1"}
    done = gapless(url, "migrate", **{VARIABLE: "nowhere"}, **armed)
    assert done.status == 2
    done = gapless(url, "migrate", **{VARIABLE: "migrate: locked"}, **armed)
    assert done.status == -9
    assert "crash point reached: migrate: locked" in done.err
    assert gapless(url, "migrate").status == 0
