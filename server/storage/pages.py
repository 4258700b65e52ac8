"""What backfills write: each step of a job is one write, saved with others' (group_commit.py).

The order of a backfill is the reason that it leaves no seam (docs/architecture.md draws it):
the repo is tracked and confirmed · its rev is read · pages are read, each as new as that rev or
newer, and committed (`open_repos`, which stores the rev as well, and `commit_pages`) · the repo is
live from that rev on (`finish`). Meanwhile the stream goes on writing; for any record, the later
rev wins.

Three revs say whether a PDS's pages and the stream's commits are one repo. `rev` is the last commit
that the stream told since the reset, `chain_since` the one that the first of these continues, and
`snapshot_rev` what the PDS had before its pages were read; 0: none. Say the stream told 7, which
continues 5, and then 9, which continues 7: `rev` is 9 and `chain_since` 5. Pages as of 5 are whole
with them; of pages as of 4 nobody knows whether 5 is in them: that PDS is BEHIND. After a hole both
are 9 (`require_revs`), for the rows of 9 are written, and older pages would take them away. A LIVE
repo has all up to `rev`, and if it `is_chained` the next commit has to continue that.

Every function is a `save` of group_commit.py: it runs in a transaction of one who leads, which
holds the repos, and takes one step of each of several authors. Of a repo that was reset since its
job began nothing is written, as the reset queued a new job: the result for it is False.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from server.core.syntax import FOLLOW, int_to_tid, is_tid
from server.storage import authors, departures, gaps, items, jobs, repos, tombstones
from server.storage.authors import StoredIdentity
from server.storage.crash_points import crash_point
from server.storage.follows import are_cut, mark_cut
from server.storage.group_commit import Group
from server.storage.jobs import Job, Progress
from server.storage.many_rows import execute_in, update_rows
from server.storage.page_rows import Page, least_keys, save_pages
from server.storage.repos import Repo, load_repos
from server.storage.touched import touch

log = logging.getLogger(__name__)

# Items of one author with which a listing ends, complete down to where it came. Bluesky's own PDSes
# let nobody make more than 11,666 records a day, so this is more than a month of a tireless bot.
MAX_ITEMS = 500_000
# Records of one collection with which it ends likewise, whatever they are: of junk, nothing is
# kept that could be counted.
MAX_LISTED = 500_000

# So often in a row a job has failed after about a day (see backfill/worker.py). A PDS that is still
# behind the stream then is not late: it lost those commits, and what it has is what there is.
BEHIND_ATTEMPTS = 40


@dataclass(frozen=True, slots=True)
class Opening:
    """The rev of a repo, and the newest page of each collection, read after it; none of a viewer's.

    `begin` is given the least key that we hold of each collection, and says how far down the job
    is. `home`: what the directory said, if it was asked.
    """

    job: Job
    rev: int
    newest: Sequence[Page]
    begin: Callable[[Mapping[str, str]], Progress]
    home: StoredIdentity | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A page, and how far its job is then, and how urgent."""

    job: Job
    page: Page
    progress: Progress
    priority: int
    home: StoredIdentity | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """A repo that is complete down to a record key; 0: to its beginning."""

    job: Job
    horizon_rkey: int


class Snapshot(Enum):
    """What became of a snapshot's rev."""

    STORED = "stored"
    OUT_OF_DATE = "the repo was reset since the job began"
    BEHIND = "the stream has shown a later commit, without all that came before it"


def open_repos(openings: Sequence[Opening], group: Group) -> list[Snapshot]:
    """Every page read from now on is at least as new as the rev. With pages, one can be shown.

    BEHIND says that this cannot do: a commit is missing between the rev and what the stream showed,
    or is written already and would be taken away again. It is not said for ever: from a job that
    has failed BEHIND_ATTEMPTS times, the rev is taken as it is.
    """
    _remember_homes(openings)
    held = load_repos(opening.job.author_id for opening in openings)
    became = [_judge(opening, held.get(opening.job.author_id)) for opening in openings]
    stored = [
        opening
        for opening, verdict in zip(openings, became, strict=True)
        if verdict is Snapshot.STORED
    ]
    _store_revs(stored, held)
    # What we hold of them before anything is saved.
    least = least_keys(opening.job.author_id for opening in stored)
    begun = [opening for opening in stored if opening.newest]
    revs = {opening.job.author_id: opening.rev for opening in begun}
    pages = [(opening.job.author_id, page) for opening in begun for page in opening.newest]
    save_pages(pages, revs, group)
    jobs.save_progress((_begin(opening, least) for opening in stored), group.now_us)
    _set_partial(revs)
    return became


def commit_pages(listed: Sequence[Listed], group: Group) -> list[bool]:
    """Save pages: what they list is there, what they do not list is gone.

    If we have all that we take of a collection then, that is put down in the caller's `progress`.
    """
    _remember_homes(listed)
    held = _held([one.job for one in listed])
    current = [one for one in listed if one.job.author_id in held]
    revs = {number: repo.snapshot_rev for number, repo in held.items()}
    save_pages([(one.job.author_id, one.page) for one in current], revs, group)
    _end_what_is_too_much(current, group.now_us)
    jobs.save_progress(((one.job, one.progress, one.priority) for one in current), group.now_us)
    return [one.job.author_id in held for one in listed]


def mark_partial(begun: Sequence[Job], _group: Group) -> list[bool]:
    """The newest page of each collection is there: a first page can be shown."""
    held = _held(begun)
    _set_partial(held)
    return [job.author_id in held for job in begun]


def finish(whole: Sequence[Whole], group: Group) -> list[bool]:
    """These repos are complete, and go on live."""
    held = _held([one.job for one in whole])
    update_rows(
        "repos",
        ("state", "rev", "snapshot_rev", "horizon_rkey", "live_us"),
        ("author_id",),
        [
            (
                number,
                repos.LIVE,
                max(repo.rev, repo.snapshot_rev),
                0,
                one.horizon_rkey,
                group.now_us,
            )
            for one in whole
            if (repo := held.get(number := one.job.author_id)) is not None
        ],
    )
    touch(held)
    repos.take_back_absences(list(held))
    crash_point("finish: inside, gaps not closed")
    _done(list(held), group.now_us)
    return [one.job.author_id in held for one in whole]


def finish_inactive(absent: Sequence[tuple[Job, str]], group: Group) -> list[bool]:
    """PDSes do not show these repos: hide their items until an event of each says otherwise."""
    held = _held([job for job, _ in absent])
    said = {job.author_id: status for job, status in absent if job.author_id in held}
    for number, status in said.items():
        # Who was called deleted by another is not called less by who agrees: it takes two for the
        # rows to go (backfill/accounts.py).
        agrees = repos.PDS_SAYS + status in (repos.DELETED_AT_PDS, repos.UNLISTED)
        if not (agrees and repos.is_called_deleted(number)):
            repos.set_status(number, is_active=False, status=repos.PDS_SAYS + status)
    execute_in("UPDATE repos SET state = ?, snapshot_rev = 0 WHERE author_id", said, (repos.LIVE,))
    touch(said)
    crash_point("absence: inside")
    _done(list(said), group.now_us)
    return [job.author_id in held for job, _ in absent]


def remember_homes(homes: Sequence[StoredIdentity], _group: Group) -> list[None]:
    """What the directory said, of jobs that have nothing else to write."""
    _save_homes(homes)
    return [None for _ in homes]


def _remember_homes(writes: Iterable[Opening | Listed]) -> None:
    _save_homes([write.home for write in writes if write.home is not None])


def _save_homes(homes: Sequence[StoredIdentity]) -> None:
    # Whoever was forgotten meanwhile is to stay forgotten.
    gone = departures.gone_among(home.did for home in homes)
    authors.save_identities(home for home in homes if home.did not in gone)


def _held(of: Iterable[Job]) -> dict[int, Repo]:
    """The repos of these jobs, without those that were reset since."""
    epochs = {job.author_id: job.epoch for job in of}
    return {n: repo for n, repo in load_repos(epochs).items() if repo.epoch == epochs[n]}


def _judge(opening: Opening, repo: Repo | None) -> Snapshot:
    if repo is None or repo.epoch != opening.job.epoch:
        return Snapshot.OUT_OF_DATE
    is_given_time = opening.job.attempts < BEHIND_ATTEMPTS
    return Snapshot.BEHIND if is_given_time and _is_behind(opening, repo) else Snapshot.STORED


def _is_behind(opening: Opening, repo: Repo) -> bool:
    return repo.rev > opening.rev and repo.chain_since > opening.rev


def _store_revs(stored: Sequence[Opening], held: Mapping[int, Repo]) -> None:
    values = []
    for opening in stored:
        repo = held[opening.job.author_id]
        rev, chain_since = (0, 0) if _is_behind(opening, repo) else (repo.rev, repo.chain_since)
        # Whether there are too many follows will show again.
        wants = repo.wants & ~repos.CUT
        values.append((repo.author_id, rev, chain_since, opening.rev, wants))
    update_rows("repos", ("rev", "chain_since", "snapshot_rev", "wants"), ("author_id",), values)
    crash_point("snapshot: inside")


def _begin(opening: Opening, least: Mapping[int, Mapping[str, str]]) -> tuple[Job, Progress, int]:
    job = opening.job
    priority = repos.OLDER_PAGES if opening.newest else job.priority
    return job, opening.begin(least.get(job.author_id, {})), priority


def _end_what_is_too_much(listed: Iterable[Listed], now_us: int) -> None:
    """Go no further down in a collection of which we have all that we take."""
    going_on = [
        one
        for one in listed
        if one.page.lower is not None and one.progress.cursors.get(one.page.collection) is not None
    ]
    of_items = [one for one in going_on if one.page.collection != FOLLOW]
    full = items.who_has_more_than(MAX_ITEMS, (one.job.author_id for one in of_items))
    for one in going_on:
        name, lower = one.page.collection, one.page.lower or ""
        is_endless = one.progress.listed.get(name, 0) >= MAX_LISTED
        if name == FOLLOW:
            if is_endless:
                mark_cut({one.job.author_id})
            if are_cut(one.job.author_id):
                one.progress.end(name)
        elif is_endless or one.job.author_id in full:
            log.warning("history cut did=%s: there is enough of it", one.job.did)
            # Above all TIDs nothing says of when it is: then it is complete from now on.
            one.progress.end(name, lower if is_tid(lower) else int_to_tid(now_us << 10))


def _set_partial(author_ids: Iterable[int]) -> None:
    numbers = list(author_ids)
    execute_in("UPDATE repos SET state = ? WHERE author_id", numbers, (repos.PARTIAL,))
    touch(numbers)


def _done(author_ids: Sequence[int], now_us: int) -> None:
    jobs.remove(author_ids)
    tombstones.forget_alive(author_ids)
    gaps.close_for_authors(author_ids, now_us)
    gaps.close_healed(now_us)
