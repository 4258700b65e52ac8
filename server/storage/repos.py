"""The repos that we follow on the stream: which, how complete, and what makes them start over.

A repo is `PENDING` (nothing fetched since it was last reset), `PARTIAL` (the newest page of each
collection is there), `LIVE` (complete down to its horizon, and continued by the stream without a
break) or `LET_GO` (nobody needs it: see departures.py). Every reset takes a new `epoch`, which ends
jobs that run for the old one, and a new `tracked_version`, which the stream's reader must confirm
before a job reads anything. What the revs mean, says pages.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from server.storage.database import execute, for_update, rows, value
from server.storage.many_rows import execute_in, insert_rows, rows_in, update_rows
from server.storage.touched import touch, touch_everybody

LET_GO, PENDING, PARTIAL, LIVE = 0, 1, 2, 3
# CUT, beside FOLLOWS: of those there are more than we take (storage/follows.py).
ITEMS, FOLLOWS, CUT = 1, 2, 4
# What `is_chained` says. CHAINED: the next commit has to continue `rev`. UNCHAINED: it need not.
# RECHAINED: it has to, but a source without a chain, which may have lost some, told of what came
# before, and nobody has compared the repo since.
UNCHAINED, CHAINED, RECHAINED = 0, 1, 2

# Before a PDS's word, which a backfill that finds the repo takes back; not before an #account's.
PDS_SAYS = "pds:"
# What the stream calls an account that is gone for good, what its PDS calls it, and what it is once
# that is confirmed and nothing of it is left.
DELETED = "deleted"
DELETED_AT_PDS = PDS_SAYS + DELETED
PURGED = PDS_SAYS + "purged"
# Of whom no PDS can be asked, because the directory does not know them: hidden, and no more.
UNLISTED = PDS_SAYS + "unlisted"

NO_HORIZON = 2**63 - 1  # Of what was not fetched since it was tracked.

# After a hole, the word of the stream that an account is not there may be out of date as well: then
# it counts as a PDS's word, which the backfill confirms or takes back.
_RESET = (
    "state = ?, epoch = epoch + 1, tracked_version = ?, rev = 0, chain_since = 0, snapshot_rev = 0,"
    " is_chained = 1,"
    " status = CASE WHEN is_active = 0 AND substr(coalesce(status, ''), 1, 4) <> ?"
    " THEN ? || coalesce(status, 'unknown') ELSE status END"
)

# How many repos the stream's reader takes in at a time.
TRACKED_PAGE = 20_000

# Order of jobs: what a viewer waits for comes first. NEWEST_OF_MANY: newest pages that come in
# such numbers that others should not wait for all of them.
VIEWER_FOLLOWS, NEWEST_PAGE, NEWEST_OF_MANY, OLDER_PAGES = 0, 1, 2, 3

_JOBS = "backfill_jobs (author_id, priority, not_before_us)"
# Whoever is waited for more urgently than that, still is.
_QUEUED_ALREADY = (
    "ON CONFLICT (author_id) DO UPDATE SET attempts = 0, progress = NULL,"
    " not_before_us = excluded.not_before_us, priority = CASE WHEN backfill_jobs.priority"
    " < excluded.priority THEN backfill_jobs.priority ELSE excluded.priority END"
)


@dataclass(slots=True)
class Repo:
    """A row of `repos`, locked by the transaction that loaded it."""

    author_id: int
    state: int
    wants: int
    epoch: int
    rev: int
    chain_since: int
    snapshot_rev: int
    is_active: int
    status: str | None
    is_chained: int


@dataclass(frozen=True, slots=True)
class TrackedRepo:
    """What the stream's reader has to know of a repo: its commits are wanted, or not any more."""

    did: str
    author_id: int
    wants: int
    tracked_version: int


def track(author_ids: Iterable[int], wants: int, now_us: int, priority: int = NEWEST_PAGE) -> None:
    """Follow these repos, in the caller's transaction; queue a backfill of what is new to us."""
    wanted = sorted(set(author_ids))
    # Who has been on the list of departures for a while may be let go at this very moment: with
    # their rows locked it is before or after. (Others are not: see departures.LONELY_US.)
    load_repos(n for (n,) in rows_in("SELECT author_id FROM departures WHERE author_id", wanted))
    known = rows_in("SELECT author_id, state, wants FROM repos WHERE author_id", wanted)
    complete = {number for number, state, has in known if state != LET_GO and has & wants == wants}
    new = [number for number in wanted if number not in complete]
    if not new:
        return
    # Rows before the counter, here as everywhere: the other way round two writers could deadlock.
    load_repos({number for number, _, _ in known} - complete)
    version = _next_version()
    fresh = [(number, PENDING, wants, 1, version) for number in new]
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version)",
        fresh,
        "ON CONFLICT (author_id) DO UPDATE SET state = excluded.state, epoch = repos.epoch + 1,"
        " wants = repos.wants | excluded.wants, tracked_version = excluded.tracked_version,"
        " rev = 0, chain_since = 0, snapshot_rev = 0, is_chained = 1",
    )
    touch(new)
    _queue(new, VIEWER_FOLLOWS if wants & FOLLOWS else priority, now_us)


def reset(author_ids: Sequence[int], now_us: int) -> None:
    """What we know of these repos may be wrong: fetch each again, in the caller's transaction."""
    if not author_ids:
        return
    execute_in(
        f"UPDATE repos SET {_RESET} WHERE state <> ? AND author_id",
        author_ids,
        (PENDING, _next_version(), PDS_SAYS, PDS_SAYS, LET_GO),
    )
    touch(author_ids)
    _queue(author_ids, NEWEST_PAGE, now_us)


def void_chains() -> None:
    """The revs we have may not be the newest: no next commit has to continue them.

    A source without chains leaves out whole commits (of likes, say), which is no hole.
    """
    _lock_tracked()
    execute("UPDATE repos SET is_chained = 0 WHERE is_chained <> 0 AND state <> ?", (LET_GO,))


def reset_all(now_us: int) -> int:
    """The same for every repo that is tracked. Returns the version that marks them."""
    _lock_tracked()
    version = _next_version()
    execute(
        f"UPDATE repos SET {_RESET} WHERE state <> ?",
        (PENDING, version, PDS_SAYS, PDS_SAYS, LET_GO),
    )
    touch_everybody()
    execute(
        f"INSERT INTO {_JOBS}"
        " SELECT author_id, CASE WHEN wants >= ? THEN ? ELSE ? END, ? FROM repos WHERE state <> ?"
        f" {_QUEUED_ALREADY}",
        (FOLLOWS, NEWEST_PAGE, NEWEST_OF_MANY, now_us, LET_GO),
    )
    return version


def let_go(author_id: int) -> None:
    """Stop following a repo, in the caller's transaction, which holds its row.

    What is left of it here is nobody's word any more: who follows it again, begins anew.
    """
    execute(
        f"UPDATE repos SET {_RESET}, wants = ?, horizon_rkey = ? WHERE author_id = ?",
        (LET_GO, _next_version(), PDS_SAYS, PDS_SAYS, ITEMS, NO_HORIZON, author_id),
    )
    touch([author_id])
    execute("DELETE FROM backfill_jobs WHERE author_id = ?", (author_id,))


def want_items_only(repo: Repo) -> None:
    """The repo is no viewer's any more, in the caller's transaction, which holds its row.

    A job that fetches follows ends by the epoch. The reader need not be told of a repo that is not
    complete: a new version would take it out of the gaps that wait for it.
    """
    is_live = repo.state == LIVE
    execute(
        "UPDATE repos SET wants = ?, epoch = epoch + 1,"
        " tracked_version = CASE WHEN ? = 1 THEN ? ELSE tracked_version END WHERE author_id = ?",
        (ITEMS, int(is_live), _next_version() if is_live else 0, repo.author_id),
    )


def load_repos(author_ids: Iterable[int]) -> dict[int, Repo]:
    """These repos, locked until the transaction ends."""
    found = rows_in(
        "SELECT author_id, state, wants, epoch, rev, chain_since, snapshot_rev, is_active, status,"
        " is_chained FROM repos WHERE author_id",
        sorted(set(author_ids)),
        f"ORDER BY author_id {for_update()}",
    )
    return {row[0]: Repo(*row) for row in found}


def known_revs(dids: Iterable[str]) -> dict[str, int]:
    """The newest rev that we have of each of these repos, from the stream or from a backfill."""
    found = rows_in(
        "SELECT a.did, r.rev, r.snapshot_rev FROM authors a JOIN repos r ON r.author_id = a.id"
        " WHERE a.did",
        sorted(set(dids)),
    )
    return {did: max(rev, snapshot_rev) for did, rev, snapshot_rev in found}


def save_revs(repos: Iterable[Repo]) -> None:
    """How far the stream has taken these repos."""
    update_rows(
        "repos",
        ("rev", "chain_since", "is_chained"),
        ("author_id", "epoch"),
        [
            (repo.author_id, repo.epoch, repo.rev, repo.chain_since, repo.is_chained)
            for repo in repos
        ],
    )


def require_revs(repos: Iterable[Repo]) -> None:
    """Of repos that were just reset: a snapshot must have the last commit that we saw."""
    # What was missing before that comes with the snapshot.
    values = [(repo.author_id, repo.rev, repo.rev, min(repo.is_chained, CHAINED)) for repo in repos]
    update_rows("repos", ("rev", "chain_since", "is_chained"), ("author_id",), values)


def set_status(author_id: int, is_active: bool, status: str | None) -> None:
    """Show the account's items, or hide them."""
    set_statuses([(author_id, is_active, status)])


def set_statuses(statuses: Sequence[tuple[int, bool, str | None]]) -> None:
    """The same for several: number, whether it is active, and the status in a word."""
    values = [(number, int(is_active), status) for number, is_active, status in statuses]
    update_rows("repos", ("is_active", "status"), ("author_id",), values)
    touch(number for number, *_ in values)


def is_called_deleted(author_id: int) -> bool:
    """Whether the stream or a PDS has said so, and nobody has said otherwise since."""
    return is_called(author_id, DELETED) or is_called(author_id, DELETED_AT_PDS)


def is_called(author_id: int, status: str | None) -> bool:
    """Whether the account is hidden, and that is why."""
    sql = "SELECT 1 FROM repos WHERE author_id = ? AND is_active = 0 AND status = ?"
    return value(sql, (author_id, status)) is not None


def take_back_absences(author_ids: Sequence[int]) -> None:
    """Show accounts again that only their PDSes had called absent, and now show."""
    shown = "UPDATE repos SET is_active = 1, status = NULL"
    execute_in(f"{shown} WHERE substr(status, 1, 4) = ? AND author_id", author_ids, (PDS_SAYS,))
    touch(author_ids)


def tracked_since(version: int) -> Iterator[TrackedRepo]:
    """What changed in the tracked set after `version`, oldest first; `wants` 0: let go.

    Read in pages, so that millions of repos are never in memory as rows. A repo that changes
    meanwhile has a later version then, and comes (again) in a later page.
    """
    while found := _tracked("r.tracked_version > ?", (version,)):
        yield from found
        version = found[-1].tracked_version
        # A whole page may end in the middle of those that share a version.
        while len(found) == TRACKED_PAGE and (
            found := _tracked(
                "r.tracked_version = ? AND r.author_id > ?", (version, found[-1].author_id)
            )
        ):
            yield from found


def is_anybody_tracked() -> bool:
    """Whether a hole in the stream could have cost us anything."""
    return value("SELECT 1 FROM repos WHERE state <> ? LIMIT 1", (LET_GO,)) is not None


def _tracked(where: str, place: Sequence[int]) -> list[TrackedRepo]:
    # One condition for two columns would read as well, but SQLite reads everything for it.
    found = rows(
        "SELECT a.did, r.author_id, CASE WHEN r.state = ? THEN 0 ELSE r.wants END,"
        " r.tracked_version FROM repos r JOIN authors a ON a.id = r.author_id"
        f" WHERE {where} ORDER BY r.tracked_version, r.author_id LIMIT ?",
        (LET_GO, *place, TRACKED_PAGE),
    )
    return [TrackedRepo(*row) for row in found]


def _lock_tracked() -> None:
    lock = f"SELECT author_id FROM repos WHERE state <> ? ORDER BY author_id {for_update()}"
    rows(lock, (LET_GO,))


def _next_version() -> int:
    # The row stays locked until the commit, so versions become visible in their own order and a
    # reader that asks for what came after the last one it saw misses none.
    sql = "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value"
    return int(rows(sql, ("tracked",))[0][0])


def _queue(author_ids: Sequence[int], priority: int, now_us: int) -> None:
    queued = [(number, priority, now_us) for number in author_ids]
    insert_rows(f"INSERT INTO {_JOBS}", queued, _QUEUED_ALREADY)
