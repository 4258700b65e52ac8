"""What we can vouch for: complete since when, for how many authors, and whom not, and why not.

The answer of the whole house to "is anything missing?", for one viewer and for everybody. It only
reads. Each author counts once: as complete, or under the first reason of `WHY` that holds.

Bounds: for a viewer, a few index look-ups for each account followed (10,000: tens of milliseconds);
for everybody, one pass over `repos` and the look-ups for each author that is not complete. At most
`limit` shortfalls are named; the counts are exact.
"""

from dataclasses import dataclass
from typing import Any

from server.core.syntax import tid_us
from server.storage import repos
from server.storage.database import rows

# Why an author is not complete; the first that holds counts. `inactive`: the account is hidden, by
# its own word or its PDS's. `failing`: fetching goes wrong, and is tried again. `gap`: a hole is
# known, and the repo is being fetched again. `newest page`: what is older is still to come.
# `pending`: nothing is fetched yet. `follows cut`: the viewer, who follows more than are kept
# (storage/follows.py). `horizon`: complete, but only since later than BACKFILL_DAYS.
WHY = (
    "untracked",
    "inactive",
    "failing",
    "gap",
    "newest page",
    "pending",
    "follows cut",
    "horizon",
)
COMPLETE = "complete"
# Of these nothing is shown anywhere, so that nothing is missing either.
AWAY = "inactive"

_WHY_SQL = f"""CASE
    WHEN r.author_id IS NULL OR r.state = {repos.LET_GO} THEN 'untracked'
    WHEN r.is_active = 0 THEN 'inactive'
    WHEN r.state <> {repos.LIVE} AND coalesce(j.attempts, 0) > 0 THEN 'failing'
    WHEN g.id IS NOT NULL THEN 'gap'
    WHEN r.state = {repos.PARTIAL} THEN 'newest page'
    WHEN r.state <> {repos.LIVE} THEN 'pending'
    WHEN r.author_id = f.viewer_id AND r.wants >= {repos.CUT} THEN 'follows cut'
    WHEN r.horizon_rkey > ? THEN 'horizon'
    ELSE '{COMPLETE}' END"""

# The oldest open gap that holds an author back: its own, or one of everybody that reset it.
_GAP_SQL = f"""coalesce(
    (SELECT min(o.id) FROM gaps o WHERE o.closed_us IS NULL AND o.author_id = f.id),
    CASE WHEN r.state <> {repos.LIVE} THEN (SELECT min(o.id) FROM gaps o
        WHERE o.closed_us IS NULL AND o.author_id IS NULL
        AND o.tracked_version >= r.tracked_version) END)"""

_JOINED = f"""LEFT JOIN repos r ON r.author_id = f.id
    LEFT JOIN backfill_jobs j ON j.author_id = f.id
    LEFT JOIN gaps g ON g.id = {_GAP_SQL}"""

_FOLLOWED = (
    "SELECT id, ? AS viewer_id"
    " FROM (SELECT subject_id AS id FROM follows WHERE viewer_id = ? UNION SELECT ?) t"
)
# Whoever of the tracked may be anything but complete.
_SUSPECTS = f"""SELECT t.author_id AS id, 0 AS viewer_id FROM repos t
    WHERE t.state <> {repos.LET_GO}
    AND t.author_id IN (SELECT author_id FROM backfill_jobs
        UNION SELECT author_id FROM repos WHERE is_active = 0
        UNION SELECT author_id FROM gaps WHERE closed_us IS NULL AND author_id IS NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Window:
    """What is promised: history from `promised_us` on, nothing from before `kept_us`."""

    promised_us: int
    kept_us: int

    @classmethod
    def at(cls, now_us: int, backfill_days: int, retention_days: int) -> "Window":
        """The promise as it stands now."""
        day_us = 86_400_000_000
        return cls(now_us - backfill_days * day_us, now_us - retention_days * day_us)

    @property
    def promised_rkey(self) -> int:
        """The least TID that was made at `promised_us`."""
        return max(0, self.promised_us) << 10


@dataclass(frozen=True, slots=True)
class Shortfall:
    """An author of whom something may be missing. Fields that do not apply are None."""

    did: str
    handle: str | None
    why: str
    status: str | None
    error: str | None
    attempts: int
    retry_us: int | None
    gap_reason: str | None
    gap_from_ms: int | None
    gap_to_ms: int | None
    since_us: int | None


@dataclass(frozen=True, slots=True)
class Completeness:
    """Of `complete` of `authors`, everything from `since_us` to `until_us` is there.

    `since_us` is None when nobody is complete; `until_us` is the stream's place, None without one.
    `counts` are of the others, by the words of WHY; `shortfalls` are the first of them.
    """

    authors: int
    complete: int
    since_us: int | None
    until_us: int | None
    counts: dict[str, int]
    shortfalls: list[Shortfall]


def of_viewer(viewer_id: int, window: Window, limit: int) -> Completeness:
    """How complete one viewer's feed is: whom they follow, and themselves."""
    whom, who = f"({_FOLLOWED}) f", (viewer_id, viewer_id, viewer_id)
    counted = rows(
        f"SELECT w.why, count(*), max(w.horizon) FROM (SELECT {_WHY_SQL} AS why,"
        f" r.horizon_rkey AS horizon FROM {whom} {_JOINED}) w GROUP BY w.why",
        (window.promised_rkey, *who),
    )
    counts = {str(why): int(count) for why, count, _ in counted}
    horizons = {why: horizon for why, _, horizon in counted}
    return Completeness(
        authors=sum(counts.values()),
        complete=counts.pop(COMPLETE, 0),
        since_us=_since_us(horizons.get(COMPLETE), window),
        until_us=stream_place_us(),
        counts=_in_order(counts),
        shortfalls=_shortfalls(whom, who, window, limit),
    )


def of_everybody(window: Window, limit: int) -> Completeness:
    """How complete all tracked authors are."""
    whom = f"({_SUSPECTS}) f"
    total, late, horizon = rows(
        "SELECT count(*),"
        " coalesce(sum(CASE WHEN is_fine = 1 AND horizon_rkey > ? THEN 1 ELSE 0 END), 0),"
        " max(CASE WHEN is_fine = 1 AND horizon_rkey <= ? THEN horizon_rkey END)"
        " FROM (SELECT r.horizon_rkey, CASE WHEN r.state = ? AND r.is_active = 1 THEN 1 ELSE 0 END"
        " AS is_fine FROM repos r WHERE r.state <> ?) t",
        (window.promised_rkey, window.promised_rkey, repos.LIVE, repos.LET_GO),
    )[0]
    counted = rows(
        f"SELECT w.why, count(*) FROM (SELECT {_WHY_SQL} AS why FROM {whom} {_JOINED}) w"
        f" WHERE w.why NOT IN ('{COMPLETE}', 'horizon') GROUP BY w.why",
        (window.promised_rkey,),
    )
    counts = {str(why): int(count) for why, count in counted}
    if late:
        counts["horizon"] = int(late)
    return Completeness(
        authors=int(total),
        complete=int(total) - sum(counts.values()),
        since_us=_since_us(horizon, window),
        until_us=stream_place_us(),
        counts=_in_order(counts),
        shortfalls=_shortfalls(whom, (), window, limit),
    )


def of_author(author_id: int, window: Window) -> Shortfall | None:
    """Why one author is not complete; None if they are."""
    found = _shortfalls("(SELECT ? AS id, 0 AS viewer_id) f", (author_id,), window, 1)
    return found[0] if found else None


def stream_place_us() -> int | None:
    """The time of the last event of the stream that is saved; None before the first."""
    newest = rows("SELECT event_ms FROM stream_cursors ORDER BY written_us DESC LIMIT 1")
    return int(newest[0][0]) * 1000 if newest else None


def _shortfalls(whom: str, who: tuple[object, ...], window: Window, limit: int) -> list[Shortfall]:
    found = rows(
        "SELECT a.did, a.handle, w.* FROM"
        f" (SELECT f.id, {_WHY_SQL} AS why, r.status, j.last_error, j.attempts, j.not_before_us,"
        " g.reason, g.from_ms, g.to_ms, r.horizon_rkey"
        f" FROM {whom} {_JOINED}) w JOIN authors a ON a.id = w.id"
        # By the alphabet, what wants somebody's eye comes first: failing, gap.
        f" WHERE w.why <> '{COMPLETE}' ORDER BY w.why, w.id LIMIT ?",
        (window.promised_rkey, *who, limit),
    )
    return [_shortfall(*row) for row in found]


def _shortfall(did: str, handle: str | None, _number: int, why: str, *rest: Any) -> Shortfall:
    status, error, attempts, retry_us, reason, from_ms, to_ms, horizon = rest
    return Shortfall(
        did=did,
        handle=handle,
        why=why,
        status=status if why == "inactive" else None,
        error=error,
        attempts=attempts or 0,
        retry_us=retry_us if error is not None else None,
        gap_reason=reason,
        gap_from_ms=from_ms,
        gap_to_ms=to_ms,
        since_us=tid_us(horizon) if why == "horizon" else None,
    )


def _since_us(horizon_rkey: int | None, window: Window) -> int | None:
    """The weakest horizon, but never earlier than what is kept."""
    return None if horizon_rkey is None else max(tid_us(horizon_rkey), window.kept_us)


def _in_order(counts: dict[str, int]) -> dict[str, int]:
    return {why: counts[why] for why in WHY if why in counts}
