"""Backfill jobs: one row for each repo that is not complete, in the order in which they are due."""

import json
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field

from server.storage import leases, repos
from server.storage.database import execute, rows, value
from server.storage.many_rows import execute_in, update_rows

# A job that keeps failing stays, and is tried at least this often. No host is left alone for longer
# than that either (identity/hosts.py).
LONGEST_DELAY_US = 3600 * 1_000_000
DAY_US = 86_400_000_000
# A place of jobs, beside PDSes: each did:web may have a host of its own, which somebody made slow.
WEBSITES = "did:web"
_PLACE = (
    "CASE WHEN a.checked_us > 0 AND a.pds_url IS NOT NULL THEN a.pds_url"
    f" WHEN substr(a.did, 1, 8) = 'did:web:' THEN '{WEBSITES}' ELSE '' END"
)
# No collection's name begins so.
_LISTED = "listed "


@dataclass(slots=True)
class Progress:
    """How far a job is, by collection. Listings go down from the newest key, page by page.

    `cursors`: below which key the next page begins, None where all is listed that is wanted; a
    collection that is not in it has not been begun. `floors`: the key down to which it has to be
    listed. `horizons`: the key at which it stopped, at or above which it is complete; not there if
    it went to the end. `home`: the PDS to which `cursors` mean something. `listed`: how many
    records, of whatever kind, the pages had there that were read one after the other.

    Say the floor of posts is 500, and their pages end at 900, 600 and 300: the cursor is absent,
    then 900, then 600, and then None, with 300 as horizon. Had the PDS nothing below 600, it would
    be None without a horizon.
    """

    cursors: dict[str, str | None] = field(default_factory=dict)
    floors: dict[str, str] = field(default_factory=dict)
    horizons: dict[str, str] = field(default_factory=dict)
    home: str = ""
    listed: dict[str, int] = field(default_factory=dict)

    def is_begun(self, collection: str) -> bool:
        """Whether its first page is read, and need not be read again."""
        return collection in self.cursors

    def is_done(self, collection: str) -> bool:
        """Whether all of it is listed that is wanted."""
        return self.is_begun(collection) and self.cursors[collection] is None

    def go_on(self, collection: str, lower: str | None) -> None:
        """A page is read that ends at `lower`, where the next one begins; None: it was the last."""
        self.cursors[collection] = lower

    def end(self, collection: str, horizon: str | None = None) -> None:
        """No further page is wanted: it is complete from `horizon` up, or as far as we take it."""
        self.cursors[collection] = None
        if horizon is not None:
            self.horizons[collection] = horizon

    def count(self, collection: str, records: int) -> None:
        """So many more were listed."""
        self.listed[collection] = self.listed.get(collection, 0) + records

    def begin_anew(self, collection: str) -> None:
        """The next page is the first one again."""
        del self.cursors[collection]

    def encode(self) -> str:
        """As it is stored.

        `listed` stands among `cursors`, under names of no collection. The version before, which may
        lead again, passes over these, and would refuse a fifth value.
        """
        listed = {f"{_LISTED}{name}": str(count) for name, count in self.listed.items()}
        return json.dumps([self.cursors | listed, self.floors, self.horizons, self.home])

    @classmethod
    def decode(cls, text: str | None) -> "Progress":
        """From what was stored; nothing begun if there is nothing."""
        if text is None:
            return cls()
        progress = cls(*json.loads(text))
        for name in [name for name in progress.cursors if name.startswith(_LISTED)]:
            count = progress.cursors.pop(name)
            progress.listed[name.removeprefix(_LISTED)] = int(count or 0)
        return progress


@dataclass(frozen=True, slots=True)
class Job:
    """One repo to be fetched. Everything it writes is bound to `epoch`: see `repos`.

    `stream_ms`: the time that the stream has come to; None before its first event.
    """

    author_id: int
    did: str
    pds_url: str | None
    epoch: int
    wants: int
    snapshot_rev: int
    horizon_rkey: int
    attempts: int
    priority: int
    stream_ms: int | None
    stored_progress: str | None

    @property
    def progress(self) -> Progress:
        """How far it is, anew each time that it is asked."""
        return Progress.decode(self.stored_progress)

    @property
    def place(self) -> str | None:
        """Whom it asks first: its PDS, if that is known, or the website of a did:web."""
        return self.pds_url or (WEBSITES if self.did.startswith("did:web:") else None)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody may be waiting for it."""
        return self.priority <= repos.NEWEST_PAGE

    def wanted_since_us(self, now_us: int, days: int) -> int:
        """Since when the repo's items are wanted, of so many days.

        By a clock that is ahead it would be complete without what is wanted of it.
        """
        until_us = now_us if self.stream_ms is None else min(now_us, self.stream_ms * 1000)
        return max(0, until_us - days * DAY_US)


def due(now_us: int, limit: int, busy: Collection[str], running: Container[int] = ()) -> list[Job]:
    """The next jobs whose repos the stream's reader has confirmed, none of a busy place.

    Of `limit` jobs those that are not `running`, by their authors: it is asked often.
    """
    marks = ", ".join("?" * len(busy))
    spared = f"AND {_PLACE} NOT IN ({marks})" if busy else ""
    found = rows(
        "SELECT j.author_id, a.did, CASE WHEN a.checked_us > 0 THEN a.pds_url END,"
        " r.epoch, r.wants, r.snapshot_rev, r.horizon_rkey, j.attempts,"
        " j.priority, (SELECT max(event_ms) FROM stream_cursors), j.progress"
        " FROM backfill_jobs j"
        " JOIN repos r ON r.author_id = j.author_id JOIN authors a ON a.id = j.author_id"
        " WHERE j.not_before_us <= ? AND r.state <> ?"
        " AND r.tracked_version <= (SELECT confirmed_version FROM leases WHERE name = ?)"
        f" {spared} ORDER BY j.priority, j.not_before_us LIMIT ?",
        (now_us, repos.LET_GO, leases.NAME, *busy, limit),
    )
    return [Job(*row) for row in found if row[0] not in running]


def fail(job: Job, error: str, not_before_us: int) -> None:
    """Try the job again later; it goes on where it stopped."""
    execute(
        "UPDATE backfill_jobs SET attempts = attempts + 1, last_error = ?, not_before_us = ?"
        " WHERE author_id = ? AND EXISTS"
        " (SELECT 1 FROM repos r WHERE r.author_id = ? AND r.epoch = ?)",
        (error[:500], not_before_us, job.author_id, job.author_id, job.epoch),
    )


def save_progress(steps: Iterable[tuple[Job, Progress, int]], now_us: int) -> None:
    """How far jobs are, and how urgent from now on, in the transaction that got them there."""
    update_rows(
        "backfill_jobs",
        ("progress", "priority", "not_before_us", "attempts", "last_error"),
        ("author_id",),
        [
            (job.author_id, progress.encode(), priority, now_us, 0, None)
            for job, progress, priority in steps
        ],
    )


def hurry(author_ids: Collection[int], priority: int) -> None:
    """Of these repos, some wait in a crowd; who else follows them waits for their newest page.

    Those that were fetched before have one.
    """
    if priority >= repos.NEWEST_OF_MANY:
        return
    execute_in(
        "UPDATE backfill_jobs SET priority = ? WHERE priority = ? AND EXISTS (SELECT 1 FROM repos r"
        " WHERE r.author_id = backfill_jobs.author_id AND r.horizon_rkey = ?) AND author_id",
        sorted(author_ids),
        (priority, repos.NEWEST_OF_MANY, repos.NO_HORIZON),
    )


def take_time(author_ids: Collection[int]) -> None:
    """Somebody does not follow these repos any more: for whom nobody follows nobody waits.

    The opposite of `hurry`, and so of those that were never fetched. One that is under way goes on.
    """
    execute_in(
        "UPDATE backfill_jobs SET priority = ? WHERE priority = ? AND progress IS NULL"
        " AND EXISTS (SELECT 1 FROM repos r"
        " WHERE r.author_id = backfill_jobs.author_id AND r.horizon_rkey = ?)"
        " AND NOT EXISTS (SELECT 1 FROM follows f WHERE f.subject_id = backfill_jobs.author_id)"
        " AND NOT EXISTS (SELECT 1 FROM viewers v WHERE v.author_id = backfill_jobs.author_id)"
        " AND author_id",
        sorted(author_ids),
        (repos.NEWEST_OF_MANY, repos.NEWEST_PAGE, repos.NO_HORIZON),
    )


def remove(author_ids: Sequence[int]) -> None:
    """These jobs are done."""
    execute_in("DELETE FROM backfill_jobs WHERE author_id", author_ids)


def count() -> int:
    """How many repos wait to be fetched, wholly or in part."""
    return int(value("SELECT count(*) FROM backfill_jobs"))


def are_many_waiting(now_us: int, many: int) -> bool:
    """Whether at least so many jobs are due that somebody waits for, and that did not fail yet."""
    found = value(
        "SELECT count(*) FROM (SELECT 1 FROM backfill_jobs"
        " WHERE priority <= ? AND not_before_us <= ? AND attempts = 0 LIMIT ?) urgent",
        (repos.NEWEST_PAGE, now_us, many),
    )
    return int(found) >= many
