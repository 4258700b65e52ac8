"""Waiting after failures: longer each time, up to a limit, and never all clients at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.backoff import delay_s


@pytest.mark.parametrize(
    ("attempt", "longest_s"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (10**9, 30.0)]
)
def test_a_delay_doubles_up_to_its_limit_and_the_upper_half_is_left_to_chance(attempt, longest_s):
    delays = [delay_s(attempt, 0.5, 30.0, lambda dice=dice: dice) for dice in (0.0, 0.5, 1.0)]
    assert delays == [longest_s / 2, longest_s * 0.75, longest_s]


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_whoever_fails_longer_waits_at_least_as_long_as_the_shortest_wait_before(attempt, one, two):
    earlier = delay_s(attempt, 0.5, 30.0, lambda: one)
    later = delay_s(attempt + 1, 0.5, 30.0, lambda: two)
    assert 0.25 <= earlier <= 30.0
    assert later >= earlier / 2
