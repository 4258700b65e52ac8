"""Property tests: a few examples with every run, and as many as there is time for with FUZZ."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# How many times the usual number of examples: `make fuzz` says 100, which takes an hour or so.
TIMES = int(os.environ.get("FUZZ", "1"))

# Anything that JSON or DAG-CBOR can bring where something else is expected.
JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def fuzz(examples: int) -> Callable[[Any], Any]:
    """For a test with `@given`: so many examples in a usual run, however slow they are."""
    chosen = settings(
        max_examples=examples * TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )

    def decorate(test: Any) -> Any:
        return pytest.mark.fuzz(chosen(test))

    return decorate
