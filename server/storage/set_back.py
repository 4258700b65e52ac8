"""What was queued by a clock that was ahead, and would wait until the right one has caught up.

Promises. Once `bring_forward` has run, nothing waits for longer than twice the longest delay that
we ever give it: what is due later than that can only mean a time that the clock showed by mistake.
It is due now; but a departure begins anew, for who is on that list has a day to be followed again.
And a source that was read then, and is not any more, no longer counts as the one that is. A viewer
who was here then was so by now at the latest. Of departures and viewers, now is the stream's time
if that is later: a clock that is put back too far must make nobody seem to have been away since,
and shorten nobody's day.

Bounds: a look through what waits in each of five tables, and nothing is written while the clock is
right.
"""

from server.storage import (
    authors,
    cursors,
    departures,
    discrepancies,
    follow_backs,
    jobs,
    outside_posts,
)
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, value

# What waits in a table that holds much else, in the words of an index of just these.
_WAITS = {"outside_posts": f"state = {outside_posts.WANTED} AND "}

_NEVER_US = 2**62


def bring_forward(now_us: int) -> int:
    """Look at all that waits, and bring forward what waits for no time of this clock; how much."""
    together_us = discrepancies.READ_TOGETHER_US
    place = cursors.load_position()
    latest_us = _NEVER_US if place is None else max(now_us, place.event_ms * 1000)
    return (
        _bring("backfill_jobs", "not_before_us", now_us, jobs.LONGEST_DELAY_US)
        + _bring("outside_posts", "not_before_us", now_us, outside_posts.LONGEST_DELAY_US)
        + _bring("viewers", "mutuals_due_us", now_us, follow_backs.ROUND_US)
        + _bring("viewers", "last_us", latest_us, authors.MAX_AHEAD_US)
        + _bring("departures", "due_us", latest_us, departures.LONELY_US, departures.LONELY_US)
        # One that is read is written again in a moment.
        + _bring("stream_cursors", "written_us", now_us, together_us, -2 * together_us)
    )


@retry_conflicts
def _bring(table: str, column: str, now_us: int, longest_us: int, then_us: int = 0) -> int:
    # Small steps of a clock are nothing to act on: hence twice as long.
    never_us = now_us + 2 * longest_us
    waits_too_long = f"{_WAITS.get(table, '')}{column} > ?"
    # Mostly there is none, and to look for it keeps no writer waiting.
    if value(f"SELECT 1 FROM {table} WHERE {waits_too_long} LIMIT 1", (never_us,)) is None:
        return 0
    return execute(
        f"UPDATE {table} SET {column} = ? WHERE {waits_too_long}", (now_us + then_us, never_us)
    )
