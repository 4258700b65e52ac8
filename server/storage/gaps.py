"""The ledger of what we might have missed. A row is opened before anything after the hole is saved.

A gap of one author closes when that author is complete again; one of everybody (`author_id` NULL)
when every repo that it reset is, or has a gap of its own from then on (`keep_for_author`). What is
closed stays for who wants to look back, until it expires.

Bounds: of one author KEPT_GAPS that are closed, and those of the last hour: a PDS may say every
second that a repo was reset.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.storage import follow_backs, repos
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, rows, value
from server.storage.many_rows import execute_in, insert_rows, rows_in

KEPT_GAPS = 100


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in what we know. `did` None: of everybody tracked at `opened_us`."""

    did: str | None
    host: str | None
    reason: str
    from_ms: int
    to_ms: int
    opened_us: int
    detail: str | None


def open_for_all(host: str, reason: str, from_ms: int, to_ms: int, now_us: int) -> None:
    """We may have missed anybody's events of this span: everybody tracked is fetched again."""
    version = repos.reset_all(now_us)
    follow_backs.doubt_all(now_us)
    execute(
        "INSERT INTO gaps (host, reason, from_ms, to_ms, tracked_version, opened_us)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (host, reason, from_ms, to_ms, version, now_us),
    )


def open_for_authors(
    holes: Iterable[tuple[int, str]], host: str, event_ms: int, now_us: int
) -> None:
    """We may have missed something of these authors, each with a reason: they are fetched again."""
    reasons = dict(holes)
    if not reasons:
        return
    numbers = sorted(reasons)
    repos.reset(numbers, now_us)
    follow_backs.doubt(numbers, now_us)
    already = rows_in(
        "SELECT author_id FROM gaps WHERE closed_us IS NULL AND author_id",
        numbers,
    )
    open_now = {number for (number,) in already}
    insert_rows(
        "INSERT INTO gaps (author_id, host, reason, from_ms, to_ms, tracked_version, opened_us)",
        [
            (number, host, reasons[number], event_ms, event_ms, 0, now_us)
            for number in numbers
            if number not in open_now
        ],
    )


def open_for_finding(
    author_id: int,
    host: str | None,
    reason: str,
    detail: str,
    span_ms: tuple[int, int],
    now_us: int,
) -> None:
    """Somebody looked, and this author's repo is not as we have it: it is fetched again."""
    repos.reset([author_id], now_us)
    follow_backs.doubt([author_id], now_us)
    execute(
        "INSERT INTO gaps (author_id, host, reason, detail, from_ms, to_ms, tracked_version,"
        " opened_us) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        (author_id, host, reason, detail, *span_ms, now_us),
    )


def keep_for_author(author_id: int) -> None:
    """The author's repo gets a new version for another reason than a hole.

    That takes it out of the gaps of everybody that wait for it: they go on as its own. In the
    caller's transaction, which holds the repo's row.
    """
    execute(
        "INSERT INTO gaps (author_id, host, reason, from_ms, to_ms, tracked_version, opened_us)"
        " SELECT r.author_id, g.host, g.reason, g.from_ms, g.to_ms, 0, g.opened_us"
        " FROM repos r JOIN gaps g ON g.closed_us IS NULL AND g.author_id IS NULL"
        " AND g.tracked_version >= r.tracked_version WHERE r.author_id = ? AND r.state IN (?, ?)",
        (author_id, repos.PENDING, repos.PARTIAL),
    )


def close_for_authors(author_ids: Sequence[int], now_us: int) -> None:
    """These authors are complete again."""
    execute_in(
        "UPDATE gaps SET closed_us = ? WHERE closed_us IS NULL AND author_id",
        author_ids,
        (now_us,),
    )


def close_healed(now_us: int) -> int:
    """Close the gaps of everybody whose repos are all complete again; how many."""
    return execute(
        "UPDATE gaps SET closed_us = ? WHERE closed_us IS NULL AND author_id IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM repos r WHERE r.tracked_version <= gaps.tracked_version"
        " AND r.state IN (?, ?))",
        (now_us, repos.PENDING, repos.PARTIAL),
    )


@retry_conflicts
def expire(before_us: int) -> int:
    """Forget what was closed before then, and of each author all but the newest; how many."""
    return execute(
        "DELETE FROM gaps WHERE closed_us < ? OR id IN (SELECT id FROM"
        " (SELECT id, row_number() OVER (PARTITION BY author_id ORDER BY id DESC) AS place"
        " FROM gaps WHERE closed_us IS NOT NULL AND author_id IS NOT NULL) closed"
        " WHERE place > ?)",
        (before_us, KEPT_GAPS),
    )


def count_open() -> int:
    """How many are open."""
    return int(value("SELECT count(*) FROM gaps WHERE closed_us IS NULL"))


def open_gaps(limit: int, *, of_everybody: bool = False) -> list[Gap]:
    """The open ones, oldest first; or only those that concern everybody."""
    found = rows(
        "SELECT a.did, g.host, g.reason, g.from_ms, g.to_ms, g.opened_us, g.detail"
        " FROM gaps g LEFT JOIN authors a ON a.id = g.author_id WHERE g.closed_us IS NULL"
        f"{' AND g.author_id IS NULL' if of_everybody else ''} ORDER BY g.opened_us LIMIT ?",
        (limit,),
    )
    return [Gap(*row) for row in found]
