"""What a backfill writes: one transaction for each page that it read from a PDS.

The order of a backfill is the reason that it leaves no seam (docs/architecture.md draws it):
the repo is tracked and confirmed · its rev is read (`store_snapshot`) · pages are read, each as new
as that rev or newer, and committed (`commit_page`) · the repo is live from that rev on (`finish`).
Meanwhile the stream goes on writing; for any record, the later rev wins. The rev may be stored
together with the first pages (`open_repo`): what counts is that it was read before they were.

Three revs say whether a PDS's pages and the stream's commits are one repo. `rev` is the last commit
that the stream told since the reset, `chain_since` the one that the first of these continues, and
`snapshot_rev` what the PDS had before its pages were read; 0: none. Say the stream told 7, which
continues 5, and then 9, which continues 7: `rev` is 9 and `chain_since` 5. Pages as of 5 are whole
with them; of pages as of 4 nobody knows whether 5 is in them: that PDS is BEHIND. After a hole both
are 9 (`require_revs`), for the rows of 9 are written, and older pages would take them away. A LIVE
repo has all up to `rev`, and if it `is_chained` the next commit has to continue that.

Every function returns False, and writes nothing, when the repo was reset since the job began: the
reset queued a new job. All raise LeaseLost when somebody else leads.
"""

import logging
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from enum import Enum

from server.core.projection import SaveFollow, SaveItem
from server.core.syntax import FOLLOW, int_to_tid, is_tid, tid_to_int
from server.storage import gaps, items, jobs, leases, repos, rkeys, tombstones
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.database import execute, rows, write_transaction
from server.storage.follows import are_cut, drop_follows, priority_of_more, save_follows
from server.storage.items import COLLECTIONS, Key, Names
from server.storage.jobs import Job, Progress
from server.storage.repos import Repo
from server.storage.touched import touch

log = logging.getLogger(__name__)

_MAX_TID = 2**63 - 1

# Items of one author with which a listing ends, complete down to where it came. Bluesky's own PDSes
# let nobody make more than 11,666 records a day, so this is more than a month of a tireless bot.
MAX_ITEMS = 500_000

# So often in a row a job has failed after about a day (see backfill/worker.py). A PDS that is still
# behind the stream then is not late: it lost those commits, and what it has is what there is.
BEHIND_ATTEMPTS = 40


@dataclass(frozen=True, slots=True)
class Page:
    """Records of one collection as a PDS listed them, in descending order of their keys.

    It covers every key from `lower` (None: the least) up to, but not with, `upper` (None: beyond
    the greatest): a record of ours in there that is not `listed` is gone.
    """

    collection: str
    changes: Sequence[SaveItem | SaveFollow]
    listed: Set[str]
    upper: str | None
    lower: str | None


class Snapshot(Enum):
    """What became of a snapshot's rev."""

    STORED = "stored"
    OUT_OF_DATE = "the repo was reset since the job began"
    BEHIND = "the stream has shown a later commit, without all that came before it"


@retry_conflicts
def store_snapshot(job: Job, rev: int, progress: Progress, epoch: int, now_us: int) -> Snapshot:
    """Every page read from now on is at least as new as `rev`, and `progress` says how far down.

    BEHIND says that this cannot do: a commit is missing between `rev` and what the stream showed,
    or is written already and would be taken away again. It is not said for ever: from a job that
    has failed BEHIND_ATTEMPTS times, `rev` is taken as it is.
    """
    with write_transaction():
        stored = _store_snapshot(job, _locked(job, epoch), rev)
        if stored is Snapshot.STORED:
            jobs.save_progress(job, progress, job.priority, now_us)
    return stored


@retry_conflicts
def commit_page(
    job: Job, page: Page, progress: Progress, priority: int, epoch: int, now_us: int
) -> bool:
    """Save a page: what it lists is there, what it does not list is gone.

    If we have all that we take of the collection then, that is put down in the caller's `progress`.
    """
    names = items.name(page.changes, [job.did])
    with write_transaction():
        repo = _locked(job, epoch)
        if repo is None:
            return False
        _save_page(job, page, names, repo.snapshot_rev, now_us)
        _end_what_is_too_much(job, page, progress, now_us)
        jobs.save_progress(job, progress, priority, now_us)
    return True


@retry_conflicts
def open_repo(
    job: Job, rev: int, newest: Sequence[Page], progress: Progress, epoch: int, now_us: int
) -> Snapshot:
    """The rev and the newest page of each collection, read after it: a first page can be shown."""
    names = items.name([change for page in newest for change in page.changes], [job.did])
    with write_transaction():
        stored = _store_snapshot(job, _locked(job, epoch), rev)
        if stored is Snapshot.STORED:
            for page in newest:
                _save_page(job, page, names, rev, now_us)
            jobs.save_progress(job, progress, repos.OLDER_PAGES, now_us)
            _set_state(job.author_id, repos.PARTIAL)
    return stored


@retry_conflicts
def mark_partial(job: Job, epoch: int) -> bool:
    """The newest page of each collection is there: a first page can be shown."""
    with write_transaction():
        if _locked(job, epoch) is None:
            return False
        _set_state(job.author_id, repos.PARTIAL)
    return True


@retry_conflicts
def finish(job: Job, horizon_rkey: int, epoch: int, now_us: int) -> bool:
    """The repo is complete down to `horizon_rkey` (0: to its beginning), and goes on live."""
    with write_transaction():
        repo = _locked(job, epoch)
        if repo is None:
            return False
        execute(
            "UPDATE repos SET state = ?, rev = ?, snapshot_rev = 0, horizon_rkey = ?, live_us = ?"
            " WHERE author_id = ?",
            (repos.LIVE, max(repo.rev, repo.snapshot_rev), horizon_rkey, now_us, job.author_id),
        )
        touch([job.author_id])
        repos.take_back_absence(job.author_id)
        crash_point("finish: inside, gaps not closed")
        _done(job.author_id, now_us)
    return True


@retry_conflicts
def finish_inactive(job: Job, status: str, epoch: int, now_us: int) -> bool:
    """The PDS does not show the repo: hide its items until an event of the repo says otherwise."""
    with write_transaction():
        if _locked(job, epoch) is None:
            return False
        # Who was called deleted by another is not called less by who agrees: it takes two for the
        # rows to go (backfill/accounts.py).
        agrees = repos.PDS_SAYS + status in (repos.DELETED_AT_PDS, repos.UNLISTED)
        if not (agrees and repos.is_called_deleted(job.author_id)):
            repos.set_status(job.author_id, is_active=False, status=repos.PDS_SAYS + status)
        execute(
            "UPDATE repos SET state = ?, snapshot_rev = 0 WHERE author_id = ?",
            (repos.LIVE, job.author_id),
        )
        touch([job.author_id])
        crash_point("absence: inside")
        _done(job.author_id, now_us)
    return True


def least_key(author_id: int, collection: str) -> str | None:
    """The least record key, as text, of what we hold of a collection; None if we hold nothing."""
    number = COLLECTIONS[collection]
    of_author = "SELECT {} FROM feed_items WHERE author_id = ? AND collection = ? AND rkey {} 0"
    least = rows(of_author.format("min(rkey)", ">="), (author_id, number))[0][0]
    held = {int(rkey) for (rkey,) in rows(of_author.format("rkey", "<"), (author_id, number))}
    if least is not None:
        held.add(int(least))
    return min(rkeys.decode_rkeys(held).values(), default=None)


def _locked(job: Job, epoch: int) -> Repo | None:
    leases.fence(epoch)
    repo = repos.load_repos([job.author_id]).get(job.author_id)
    return repo if repo is not None and repo.epoch == job.epoch else None


def _store_snapshot(job: Job, repo: Repo | None, rev: int) -> Snapshot:
    if repo is None:
        return Snapshot.OUT_OF_DATE
    if repo.rev > rev and repo.chain_since > rev:
        if job.attempts < BEHIND_ATTEMPTS:
            return Snapshot.BEHIND
        execute("UPDATE repos SET rev = 0, chain_since = 0 WHERE author_id = ?", (job.author_id,))
    # Whether there are too many follows will show again.
    execute(
        "UPDATE repos SET snapshot_rev = ?, wants = CASE WHEN wants >= ? THEN wants - ? ELSE wants"
        " END WHERE author_id = ?",
        (rev, repos.CUT, repos.CUT, job.author_id),
    )
    crash_point("snapshot: inside")
    return Snapshot.STORED


def _save_page(job: Job, page: Page, names: Names, snapshot_rev: int, now_us: int) -> None:
    number = COLLECTIONS[page.collection]
    gone = _vanished(job.author_id, page)
    by_key = {(job.author_id, names.rkeys[c.rkey], number): c for c in page.changes}
    newer = {
        key for key, (rev, _) in tombstones.load([*by_key, *gone]).items() if rev > snapshot_rev
    }
    _drop(page.collection, [key for key in gone if key not in newer])
    kept = {key: change for key, change in by_key.items() if key not in newer}
    items.save_items({k: c for k, c in kept.items() if isinstance(c, SaveItem)}, names)
    if page.collection == FOLLOW:
        follows = {k: c for k, c in kept.items() if isinstance(c, SaveFollow)}
        save_follows(follows, names, now_us, priority_of_more(job.author_id))
    crash_point("page: inside")


def _end_what_is_too_much(job: Job, page: Page, progress: Progress, now_us: int) -> None:
    """Go no further down in a collection of which we have all that we take."""
    name = page.collection
    if page.lower is None or progress.cursors.get(name) is None:
        return
    if name == FOLLOW:
        if are_cut(job.author_id):
            progress.end(name)
    elif items.are_more_than(MAX_ITEMS, job.author_id):
        log.warning("history cut did=%s: there is enough of it", job.did)
        # Above all TIDs nothing says of when it is: then it is complete from now on.
        progress.end(name, page.lower if is_tid(page.lower) else int_to_tid(now_us << 10))


def _vanished(author_id: int, page: Page) -> list[Key]:
    """Our records in the range of the page that the page does not list."""
    number = COLLECTIONS[page.collection]
    present = [key for low, high in _ranges(page) for key in _present(author_id, number, low, high)]
    texts = rkeys.decode_rkeys(present)
    return [
        (author_id, key, number)
        for key in present
        if texts[key] not in page.listed
        and (page.upper is None or texts[key] < page.upper)
        and (page.lower is None or texts[key] >= page.lower)
    ]


def _ranges(page: Page) -> Iterator[tuple[int, int]]:
    """The numbers that the page's keys can have; odd keys are negative, and few."""
    yield -(2**31), -1
    lower = tid_to_int(page.lower) if page.lower is not None and is_tid(page.lower) else 0
    upper = tid_to_int(page.upper) if page.upper is not None and is_tid(page.upper) else _MAX_TID
    yield lower, upper


def _present(author_id: int, number: int, low: int, high: int) -> list[int]:
    if number == COLLECTIONS[FOLLOW]:
        sql = "SELECT rkey FROM follows WHERE viewer_id = ? AND rkey BETWEEN ? AND ?"
        found = rows(sql, (author_id, low, high))
    else:
        found = rows(
            "SELECT rkey FROM feed_items WHERE author_id = ? AND rkey BETWEEN ? AND ?"
            " AND collection = ?",
            (author_id, low, high, number),
        )
    return [int(rkey) for (rkey,) in found]


def _drop(collection: str, keys: Sequence[Key]) -> None:
    if collection == FOLLOW:
        drop_follows(keys)
    else:
        items.drop_items(keys)


def _set_state(author_id: int, state: int) -> None:
    execute("UPDATE repos SET state = ? WHERE author_id = ?", (state, author_id))
    touch([author_id])


def _done(author_id: int, now_us: int) -> None:
    jobs.remove(author_id)
    tombstones.forget_alive(author_id)
    gaps.close_for_author(author_id, now_us)
    gaps.close_healed(now_us)
