"""The last hour in numbers: what the leader noted every SAMPLE_SECONDS, for the charts of /status.

In the database, because those who show it are other processes, perhaps on other machines. Bounded:
KEPT_SECONDS of samples, and so 240 rows. A stretch without a leader has no samples, which is what
a chart shows of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from server.storage import ledger, overview
from server.storage.database import execute, rows, value

SAMPLE_SECONDS = 15
KEPT_SECONDS = 3600
# Items are counted one by one: where there are many, only this often.
COUNT_SECONDS = 600
MANY_ITEMS = 100_000


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at `at_us`.

    `frames` counts from the beginning of a lead; `items` is up to COUNT_SECONDS old. `lag_ms` is
    None before the first event.
    """

    at_us: int
    lag_ms: int | None
    frames: int
    waiting: int
    items: int


def note(frames: int, now_us: int) -> None:
    """Write down how things stand now, and let go of what is older than an hour."""
    place_us = ledger.stream_place_us()
    lag_ms = None if place_us is None else max(0, now_us - place_us) // 1000
    waiting = int(value("SELECT count(*) FROM backfill_jobs"))
    execute(
        "INSERT INTO history (at_us, lag_ms, frames, waiting, items) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (at_us) DO NOTHING",
        (now_us, lag_ms, frames, waiting, _items(now_us)),
    )
    # A clock that was put back leaves samples of the future, which would stay for ever.
    execute(
        "DELETE FROM history WHERE at_us < ? OR at_us > ?",
        (now_us - KEPT_SECONDS * 1_000_000, now_us + SAMPLE_SECONDS * 1_000_000),
    )


def samples(since_us: int) -> list[Sample]:
    """What was noted since then, oldest first."""
    found = rows(
        "SELECT at_us, lag_ms, frames, waiting, items FROM history WHERE at_us >= ? ORDER BY at_us",
        (since_us,),
    )
    return [Sample(*row) for row in found]


def frames_each_second(found: Sequence[Sample]) -> list[tuple[int, float]]:
    """(time, events a second) between neighbours; nothing where a new lead began to count."""
    rates = []
    for before, after in pairwise(found):
        elapsed_s = (after.at_us - before.at_us) / 1_000_000
        if after.frames >= before.frames and elapsed_s < 4 * SAMPLE_SECONDS:
            rates.append((after.at_us, round((after.frames - before.frames) / elapsed_s, 1)))
    return rates


def _items(now_us: int) -> int:
    """The count that was made lately; a new one at the first sample of every COUNT_SECONDS."""
    last = rows("SELECT items FROM history ORDER BY at_us DESC LIMIT 1")
    is_due = now_us // 1_000_000 % COUNT_SECONDS < SAMPLE_SECONDS
    if last and last[0][0] >= MANY_ITEMS and not is_due:
        return int(last[0][0])
    return overview.count_items()
