"""Waiting for something to become true, with a deadline and a reason when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.05

T = TypeVar("T")


def wait_until(ask: Callable[[], T], seconds: float, what: str | Callable[[], str]) -> T:
    """The first answer that counts as true; AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            reason = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:.0f} s: {reason}")
        time.sleep(POLL_SECONDS)
    return answer
