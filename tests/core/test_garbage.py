"""Python looks for garbage more rarely, and still finds it."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from server.core.garbage import collect_less


class _Loop:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_refers_to_itself_is_found_in_the_end() -> None:
    collect_less()
    assert gc.isenabled()
    lost = weakref.ref(_Loop())
    kept = []
    while lost() is not None:
        kept.append([])
        assert len(kept) < 1_000_000


def test_what_was_there_before_is_left_alone() -> None:
    # Whatever pytest holds is here.
    collect_less()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 1_000
