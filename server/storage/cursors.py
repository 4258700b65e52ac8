"""Where we are in each source: the places that everything before is saved of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.storage.database import execute, rows

# How far clocks are set back without a word.
TO_COME_MS = 120_000
_CURSOR = "host, seq, event_ms, has_chain"


@dataclass(frozen=True, slots=True)
class StreamCursor:
    """A place in a source: the last event whose changes are saved.

    `event_ms`: everything that happened before is saved; it may be a little early, never late.
    `has_chain`: the source shows which commit continues which, so that a lost one is noticed.
    """

    host: str
    seq: int
    event_ms: int
    has_chain: bool = True


def load_cursor(host: str) -> StreamCursor | None:
    """Where to go on in a source; None if we never saved anything of it."""
    found = rows(f"SELECT {_CURSOR} FROM stream_cursors WHERE host = ?", (host,))
    return _cursor(found[0]) if found else None


def load_position() -> StreamCursor | None:
    """How far any source has taken us: everything before its `event_ms` is saved.

    A cursor of long ago is as true as ever, so whichever got furthest counts.
    """
    newest = "ORDER BY event_ms DESC, written_us DESC LIMIT 1"
    found = rows(f"SELECT {_CURSOR} FROM stream_cursors {newest}")
    return _cursor(found[0]) if found else None


def save_cursor(cursor: StreamCursor, now_us: int) -> None:
    """Go on to a place, in the transaction of the rows that it vouches for."""
    execute(
        "INSERT INTO stream_cursors (host, seq, event_ms, has_chain, written_us)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET seq = excluded.seq,"
        " event_ms = excluded.event_ms, has_chain = excluded.has_chain,"
        " written_us = excluded.written_us",
        (cursor.host, cursor.seq, cursor.event_ms, int(cursor.has_chain), now_us),
    )


def forget_cursor(host: str, now_us: int) -> None:
    """There is a hole before the next event of a source, so its place vouches for nothing.

    Nor does one of any source that is of a time to come: whoever saved it had a clock that was
    ahead.
    """
    execute(
        "DELETE FROM stream_cursors WHERE host = ? OR event_ms > ?",
        (host, now_us // 1000 + TO_COME_MS),
    )


def _cursor(row: Sequence[Any]) -> StreamCursor:
    host, seq, event_ms, has_chain = row
    return StreamCursor(host, seq, event_ms, bool(has_chain))
