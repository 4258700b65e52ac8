"""Viewers: accounts that opened one of our feeds, and how ready their feed is.

When they were here last is the latest that any machine has said, and no earlier than the stream's
time: one whose clock is behind makes nobody seem to have been away. What is further ahead than
clocks differ was said by a clock that was wrong.
"""

from dataclasses import dataclass

from server.storage import cursors, gaps, repos
from server.storage.authors import MAX_AHEAD_US, author_ids
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.database import execute, rows, write_transaction
from server.storage.many_rows import insert_rows

# {now} as it is to be written, unless a later time stands there already.
_LAST_US = (
    f"CASE WHEN viewers.last_us > {{now}} AND viewers.last_us <= {{now}} + {MAX_AHEAD_US}"
    " THEN viewers.last_us ELSE {now} END"
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """How much of a viewer's feed is there. Counts are of repos, the viewer's own among them."""

    are_follows_known: bool
    with_first_page: int
    complete: int
    total: int

    @property
    def has_first_page(self) -> bool:
        """Whether the newest page of everybody is in, as far as they can be fetched."""
        return self.are_follows_known and self.with_first_page >= self.total


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who has opened a feed before, and was not let go since."""

    number: int
    first_us: int


def find(did: str) -> Viewer | None:
    """The viewer with this DID."""
    found = rows(
        "SELECT v.author_id, v.first_us FROM viewers v JOIN authors a ON a.id = v.author_id"
        " WHERE a.did = ?",
        (did,),
    )
    return Viewer(*found[0]) if found else None


@retry_conflicts
def welcome(did: str, now_us: int) -> int:
    """First sight of a viewer: follow their repo, and queue the fetching of their follows."""
    number = author_ids([did])[did]
    here_us = _here_us(now_us)
    crash_point("viewer: numbered")
    with write_transaction():
        # Whoever lets this account go holds the same row: so that is over, or finds a viewer.
        repo = repos.load_repos([number]).get(number)
        insert_rows(
            "INSERT INTO viewers (author_id, first_us, last_us)",
            [(number, now_us, here_us)],
            "ON CONFLICT (author_id) DO UPDATE SET"
            f" last_us = {_LAST_US.format(now='excluded.last_us')}",
        )
        crash_point("viewer: inside")
        # Else it keeps its version, and its place in the gaps that wait for it.
        if repo is not None and not repo.wants & repos.FOLLOWS:
            gaps.keep_for_author(number)
        repos.track([number], repos.ITEMS | repos.FOLLOWS, now_us)
    crash_point("viewer: seen and job queued")
    return number


def touch(number: int, now_us: int) -> bool:
    """The viewer was here; False if they have been let go, and have to be welcomed again."""
    sql = f"UPDATE viewers SET last_us = {_LAST_US.format(now='?')} WHERE author_id = ?"
    here_us = _here_us(now_us)
    return execute(sql, (here_us, here_us, here_us, number)) > 0


def _here_us(now_us: int) -> int:
    """When somebody is here who is here now."""
    place = cursors.load_position()
    return now_us if place is None else max(now_us, place.event_ms * 1000)


def gone_since(before_us: int, limit: int, after: int = 0) -> list[int]:
    """The next viewers, in the order of their numbers, who were here last before then."""
    sql = (
        "SELECT author_id FROM viewers WHERE last_us < ? AND author_id > ?"
        " ORDER BY author_id LIMIT ?"
    )
    return [int(number) for (number,) in rows(sql, (before_us, after, limit))]


def forget(number: int, before_us: int = 2**63 - 1) -> bool:
    """Strike the viewer out if they were here last before then, in the caller's transaction.

    How far they had read, and who follows them back, goes with them.
    """
    sql = "DELETE FROM viewers WHERE author_id = ? AND last_us < ?"
    if not execute(sql, (number, before_us)):
        return False
    execute("DELETE FROM follow_backs WHERE viewer_id = ?", (number,))
    execute("DELETE FROM read_positions WHERE viewer_id = ?", (number,))
    return True


def with_old_identity(
    after: int, *, seen_after_us: int, checked_before_us: int, limit: int
) -> list[tuple[int, str]]:
    """Numbers and DIDs of did:plc viewers of late whose identity is old, from `after` on."""
    found = rows(
        "SELECT a.id, a.did FROM viewers v JOIN authors a ON a.id = v.author_id"
        " WHERE v.author_id > ? AND v.last_us > ? AND a.did LIKE ?"
        " AND (a.checked_us IS NULL OR a.checked_us < ?) ORDER BY v.author_id LIMIT ?",
        (after, seen_after_us, "did:plc:%", checked_before_us, limit),
    )
    return [(int(number), str(did)) for number, did in found]


def readiness(number: int) -> Readiness:
    """How much of this viewer's feed is there now.

    A repo that failed to be fetched counts as far as it got: its job is tried again, and nobody
    should wait for it.
    """
    own = rows("SELECT state FROM repos WHERE author_id = ?", (number,))
    first_page, complete, total = rows(
        "SELECT sum(CASE WHEN r.state >= ? OR EXISTS (SELECT 1 FROM backfill_jobs j"
        " WHERE j.author_id = r.author_id AND j.attempts > 0) THEN 1 ELSE 0 END),"
        " sum(CASE WHEN r.state = ? THEN 1 ELSE 0 END), count(*)"
        " FROM (SELECT subject_id FROM follows WHERE viewer_id = ? UNION SELECT ?) f"
        " JOIN repos r ON r.author_id = f.subject_id",
        (repos.PARTIAL, repos.LIVE, number, number),
    )[0]
    return Readiness(
        are_follows_known=bool(own) and own[0][0] >= repos.PARTIAL,
        with_first_page=int(first_page or 0),
        complete=int(complete or 0),
        total=int(total),
    )
