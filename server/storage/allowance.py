"""How long a request may go on asking the database: then nobody waits for its answer any more.

Promises. Within an allowance a statement that begins when it is over raises OutOfTimeError, which
is a DatabaseError; so what a request asks for is over when one statement more may be (opening.py
says how long that takes), and not after as many as there are. The shared readers of SQLite end
theirs with the allowance. Nothing is asked of the server for that, and what has begun to be written
is written to its end.

An allowance is one thread's. Who has none (the stream, the backfill, a command) goes on as ever.
Replicas have a bound of their own, which is shorter (replicas.py).
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from peewee import OperationalError


class OutOfTimeError(OperationalError):
    """The allowance is over; or the time that one statement has of its own, in shared readers."""


class _Allowance(threading.local):
    until_s = math.inf


_allowance = _Allowance()


def allow(seconds: float) -> None:
    """Begin this thread's allowance, of so long from now or until `end_allowance`."""
    _allowance.until_s = time.monotonic() + seconds


def end_allowance() -> None:
    """Let this thread take its time again."""
    _allowance.until_s = math.inf


@contextmanager
def allowed(seconds: float) -> Iterator[None]:
    """Within it, this thread has an allowance of so long from now."""
    allow(seconds)
    try:
        yield
    finally:
        end_allowance()


def left_s() -> float:
    """What is left of this thread's allowance, in seconds: below 0 if it is over."""
    return _allowance.until_s - time.monotonic()


def require_time() -> None:
    """Raise OutOfTimeError if this thread's allowance is over."""
    if left_s() < 0:
        raise OutOfTimeError("the time for all that one request asks is over")
