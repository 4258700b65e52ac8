"""Whether this thread reads from a replica now: what `rows` and `prepared_rows` ask then."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Reader(Protocol):
    """A connection to a replica. It raises what is no DatabaseError: the primary is still there."""

    prepared: set[str]

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement brings, if it brings any."""


class _Reading(threading.local):
    reader: Reader | None = None


_reading = _Reading()


@contextmanager
def reading_from(source: Reader) -> Iterator[None]:
    """Within it, this thread reads there. What it writes goes to the database all the same."""
    _reading.reader = source
    try:
        yield
    finally:
        _reading.reader = None


def reader() -> Reader | None:
    """What this thread reads from, if that is not the database."""
    return _reading.reader
