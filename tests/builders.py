"""Rows, records and commits for tests: each builder takes what matters to the test, no more."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from server.core.projection import (
    MEDIA,
    QUOTE,
    REPLY,
    Change,
    DropRecord,
    RecordRef,
    SaveFollow,
    SaveItem,
)
from server.core.syntax import FOLLOW, POST, REPOST, int_to_tid
from server.storage import authors, follow_counts, jobs, leases, pages, repos
from server.storage.authors import author_ids
from server.storage.batch import Batch, BatchResult, RepoCommit
from server.storage.changes import commit_batch
from server.storage.cursors import StreamCursor
from server.storage.database import execute, write_transaction
from server.storage.group_commit import Group, Write, commit_group
from server.storage.jobs import Job, Progress
from server.storage.page_rows import Page
from server.storage.pages import Listed, Opening, Snapshot, Whole
from server.storage.touched import touch_everybody

# A fixed moment for everything that takes the time as an argument.
NOW_MS = 1_790_000_000_000
NOW_US = NOW_MS * 1000
HOST = "relay.test"

# What makes a migrated database as good as new.
EMPTY_ALL = """
DELETE FROM authors; DELETE FROM repos; DELETE FROM feed_items; DELETE FROM odd_rkeys;
DELETE FROM follows; DELETE FROM tombstones; DELETE FROM stream_cursors; DELETE FROM viewers;
DELETE FROM backfill_jobs; DELETE FROM gaps; DELETE FROM leases; DELETE FROM outside_posts;
DELETE FROM exported_metrics; DELETE FROM history;
DELETE FROM follow_backs; DELETE FROM read_positions; DELETE FROM crowded_authors;
DELETE FROM rounds; DELETE FROM departures; UPDATE counters SET value = 0
"""


def did(name: str) -> str:
    """The DID of somebody; letters of `name` and nothing random."""
    letters = base64.b32encode(name.encode()).decode().lower().rstrip("=")
    return f"did:plc:{letters[:24]:a<24}"


def tid(number: int) -> str:
    """The record key or rev made `number` milliseconds after NOW_MS; negative ones before."""
    return int_to_tid((NOW_US + number * 1000) << 10)


def raw_cid(seed: object) -> bytes:
    """A CID of a record, different for each seed."""
    return b"\x01\x71\x12\x20" + hashlib.sha256(repr(seed).encode()).digest()


def cid_text(raw: bytes) -> str:
    """A raw CID as JSON shows it."""
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def iso(ms: int) -> str:
    """A lexicon datetime."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def post(
    rkey: str,
    created_ms: int = NOW_MS,
    *,
    seen_ms: int | None = None,
    tie: int = 0,
    parent: tuple[str, str] | None = None,
    root: tuple[str, str] | None = None,
    media: bool = False,
    quote: bool = False,
) -> SaveItem:
    """A post; `parent` and `root` are (name, rkey) and make it a reply."""
    sort_ms = created_ms if seen_ms is None else min(created_ms, seen_ms)
    flags = REPLY if parent is not None or root is not None else 0
    flags |= (MEDIA if media else 0) | (QUOTE if quote else 0)
    up, top = _ref(parent), _ref(root)
    top = None if top == up else top
    return SaveItem(POST, rkey, created_ms, sort_ms, tie, flags, up, top)


def repost(
    rkey: str, subject: tuple[str, str], created_ms: int = NOW_MS, *, tie: int = 0
) -> SaveItem:
    """A repost of a (name, rkey)."""
    return SaveItem(REPOST, rkey, created_ms, created_ms, tie, 0, _ref(subject), None)


def follow(rkey: str, name: str) -> SaveFollow:
    """A follow record."""
    return SaveFollow(rkey, did(name))


def drop(rkey: str, collection: str = POST) -> DropRecord:
    """A deletion."""
    return DropRecord(collection, rkey)


def unfollow(rkey: str) -> DropRecord:
    """The deletion of a follow record, which names no more than its key."""
    return DropRecord(FOLLOW, rkey)


def commit(
    name: str, rev: int, *changes: Change, since: int = 0, hole: str | None = None
) -> RepoCommit:
    """A commit; `rev` and `since` are small numbers, 0 for none."""
    return RepoCommit(did(name), rev, since, changes, hole)


def number_of(name: str) -> int:
    """The author's number in the tables."""
    return author_ids([did(name)])[did(name)]


def track(*names: str, wants: int = repos.ITEMS, now_us: int = NOW_US) -> None:
    """Follow these repos; nothing of them is fetched yet."""
    numbers = [number_of(name) for name in names]
    with write_transaction():
        repos.track(numbers, wants, now_us)


def confirm_all(epoch: int) -> None:
    """The stream's reader has everybody in its tracked set."""
    leases.confirm(epoch, 2**62)


def job_of(name: str, epoch: int, now_us: int = NOW_US * 2) -> Job | None:
    """The job of an author that would run next, if there is one."""
    return job_of_did(did(name), epoch, now_us)


def job_of_did(author: str, epoch: int, now_us: int = NOW_US * 2) -> Job | None:
    """The same by the author's DID."""
    confirm_all(epoch)
    due = jobs.due(now_us, 1_000_000, ())
    return next((job for job in due if job.did == author), None)


def write_alone(
    save: Callable[[Sequence[Any], Group], Sequence[Any]],
    job: Job,
    argument: object,
    epoch: int,
    now_us: int = NOW_US,
    changes: Sequence[Change] = (),
) -> Any:
    """What a job writes, in a group of its own; its result."""
    return commit_group([Write(save, argument, job.author_id, changes)], epoch, now_us)[0]


def store_snapshot(job: Job, rev: int, epoch: int) -> Snapshot:
    """The rev that a PDS gives at the beginning of a job, nothing being known of how far down."""
    opening = Opening(job, rev, (), lambda _least: Progress())
    stored = write_alone(pages.open_repos, job, opening, epoch)
    assert isinstance(stored, Snapshot)
    return stored


def commit_page(
    job: Job, page: Page, epoch: int, now_us: int = NOW_US, *, priority: int = 0
) -> bool:
    """Save a page of a job; False if the repo was reset since the job began."""
    listed = Listed(job, page, Progress(), priority)
    return write_alone(pages.commit_pages, job, listed, epoch, now_us, page.changes) is True


def finish(job: Job, horizon: int, epoch: int, now_us: int = NOW_US) -> bool:
    """The repo of a job is complete; False if it was reset since."""
    return write_alone(pages.finish, job, Whole(job, horizon), epoch, now_us) is True


def make_live(*names: str, epoch: int = 1, rev: int = 0, horizon: int = 0) -> None:
    """End the authors' backfills with what is there: complete from `horizon` up, at `rev`."""
    for name in names:
        job = job_of(name, epoch)
        assert job is not None
        assert store_snapshot(job, rev, epoch) is Snapshot.STORED
        assert finish(job, horizon, epoch)


class Stream:
    """Commits as a source tells them: each goes on from the one before, and is a batch alone."""

    def __init__(self, epoch: int = 1, host: str = HOST) -> None:
        self.epoch = epoch
        self.host = host
        self.seq = 0
        self.revs: dict[str, int] = {}

    def next(self, name: str, *changes: Change, hole: str | None = None) -> RepoCommit:
        """The next commit of a repo, not yet saved."""
        since = self.revs.get(name, 0)
        self.revs[name] = since + 1
        return commit(name, since + 1, *changes, since=since, hole=hole)

    def say(self, name: str, *changes: Change, hole: str | None = None) -> BatchResult:
        """Save the next commit of a repo."""
        return self.save(Batch(commits=[self.next(name, *changes, hole=hole)]))

    def save(self, batch: Batch, event_ms: int = NOW_MS, now_us: int = NOW_US) -> BatchResult:
        """Save a batch."""
        self.seq += 1
        cursor = StreamCursor(self.host, self.seq, event_ms)
        return commit_batch(batch, cursor, self.epoch, now_us)


def wipe() -> None:
    """Empty all tables of a test that goes through many worlds in one database."""
    with write_transaction():
        for statement in EMPTY_ALL.split(";"):
            execute(statement)
        touch_everybody()
    authors.forget_dids()
    follow_counts.forget_counts()


def new_epoch() -> int:
    """A lead for a database that `wipe` emptied, without the lock: the test is alone."""
    execute(
        "INSERT INTO leases (name, epoch, holder, acquired_us, alive_us) VALUES (?, 1, ?, 0, 0)",
        (leases.NAME, "test"),
    )
    return 1


def _ref(target: tuple[str, str] | None) -> RecordRef | None:
    return None if target is None else RecordRef(did(target[0]), target[1])
