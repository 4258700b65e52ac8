"""Differences between a repo as we have it and as its PDS has it: which there are, and which last.

A difference is nothing by itself: the stream may be a moment behind the PDS. It is a discrepancy
when the stream has gone past the moment at which the PDS was asked and has not explained it.
`resync` decides that with the repo locked, writes it into the ledger and has the repo fetched
again, in one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from server.core.syntax import FOLLOW, int_to_tid, tid_us
from server.storage import gaps, leases, records, repos, rkeys, tombstones
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, rows, value
from server.storage.items import COLLECTIONS
from server.storage.many_rows import rows_by_key
from server.storage.opening import patient_transaction
from server.storage.records import Key
from server.storage.repos import Repo

_COMPLETE = (
    "SELECT r.author_id, a.did, CASE WHEN a.checked_us > 0 THEN a.pds_url END, r.epoch, r.wants,"
    " r.is_active, r.status, r.rev, r.is_chained, r.horizon_rkey FROM repos r"
    " JOIN authors a ON a.id = r.author_id"
)


# Cursors of sources that are read at the same time are written within this time of each other.
READ_TOGETHER_US = 60_000_000


@dataclass(frozen=True, slots=True)
class KnownRepo:
    """A complete repo as we have it. `pds_url` None: to be looked up first."""

    author_id: int
    did: str
    pds_url: str | None
    epoch: int
    wants: int
    is_active: int
    status: str | None
    rev: int
    is_chained: int
    horizon_rkey: int


@dataclass(frozen=True, slots=True)
class MissedCommit:
    """The PDS has a commit that is later than what we have."""

    rev: int
    reason: ClassVar[str] = "missed commit"


@dataclass(frozen=True, slots=True)
class OtherStatus:
    """The PDS shows the repo and we do not, or the other way round. `said`: its word for why.

    `by` is who said it.
    """

    is_shown: bool
    said: str
    by: str = "the PDS"
    reason: ClassVar[str] = "other status"


# What identifies a row beside its key: a follow's subject, an item's place.
Held = str | int


@dataclass(frozen=True, slots=True)
class RecordDifference:
    """A record that the PDS lists and we have not so, or the other way round.

    `held`: our row at the time of the look; None: there was none.
    """

    collection: str
    rkey: str
    is_listed: bool
    held: Held | None


@dataclass(frozen=True, slots=True)
class OtherRecords:
    """The PDS lists other records than we have."""

    differences: Sequence[RecordDifference]
    reason: ClassVar[str] = "other records"


Finding = MissedCommit | OtherStatus | OtherRecords


def complete_after(author_id: int, limit: int) -> list[KnownRepo]:
    """The next complete repos, in the order of their authors' numbers."""
    found = rows(
        f"{_COMPLETE} WHERE r.state = ? AND r.author_id > ? ORDER BY r.author_id LIMIT ?",
        (repos.LIVE, author_id, limit),
    )
    return [KnownRepo(*row) for row in found]


def viewers_after(author_id: int, seen_since_us: int, limit: int) -> list[KnownRepo]:
    """The same of viewers who were here since then, but of those whose follows are cut."""
    found = rows(
        f"{_COMPLETE} JOIN viewers v ON v.author_id = r.author_id"
        " WHERE r.state = ? AND r.wants = ? AND v.last_us >= ? AND r.author_id > ?"
        " ORDER BY r.author_id LIMIT ?",
        (repos.LIVE, repos.ITEMS | repos.FOLLOWS, seen_since_us, author_id, limit),
    )
    return [KnownRepo(*row) for row in found]


def called_after(status: str, author_id: int, limit: int) -> list[KnownRepo]:
    """The same of accounts that are hidden, and why."""
    found = rows(
        f"{_COMPLETE} WHERE r.state = ? AND r.is_active = 0 AND r.status = ? AND r.author_id > ?"
        " ORDER BY r.author_id LIMIT ?",
        (repos.LIVE, status, author_id, limit),
    )
    return [KnownRepo(*row) for row in found]


def held(author_id: int, collection: str, lower: int) -> dict[str, Held]:
    """Our rows by their keys: of items those with TIDs from `lower` up, of follows all."""
    if collection == FOLLOW:
        found = rows(
            "SELECT f.rkey, a.did FROM follows f JOIN authors a ON a.id = f.subject_id"
            " WHERE f.viewer_id = ?",
            (author_id,),
        )
    else:
        found = records.from_key_on(author_id, COLLECTIONS[collection], lower)
    texts = rkeys.decode_rkeys(rkey for rkey, _ in found)
    return {texts[rkey]: row for rkey, row in found}


def stream_position() -> tuple[str | None, int]:
    """The source being read, and the time of its newest event that is saved, in milliseconds."""
    found = rows("SELECT host, event_ms FROM stream_cursors ORDER BY written_us DESC LIMIT 1")
    return (found[0][0], int(found[0][1])) if found else (None, 0)


def carries_chain() -> bool:
    """Whether the sources being read show that a commit is missing, every one of them."""
    found = value(
        "SELECT min(has_chain) FROM stream_cursors"
        " WHERE written_us >= (SELECT max(written_us) FROM stream_cursors) - ?",
        (READ_TOGETHER_US,),
    )
    return bool(found != 0)


@retry_conflicts
def resync(
    known: KnownRepo, finding: Finding, host: str | None, asked_ms: int, epoch: int, now_us: int
) -> str | None:
    """Have a repo fetched again if the finding still stands; what was found, or None."""
    records = finding.differences if isinstance(finding, OtherRecords) else ()
    numbers = rkeys.encode_rkeys(record.rkey for record in records)
    with patient_transaction():
        leases.fence(epoch)
        repo = repos.load_repos([known.author_id]).get(known.author_id)
        # Fetched again since, or about to be: what was seen before that counts no more.
        if repo is None or repo.epoch != known.epoch or repo.state != repos.LIVE:
            return None
        detail = _still_stands(repo, known, finding, numbers)
        if detail is None:
            return None
        # How long rows and states have been wrong, nobody can tell.
        since_ms = tid_us(repo.rev) // 1000 if isinstance(finding, MissedCommit) else 0
        span = (min(since_ms, asked_ms), asked_ms)
        gaps.open_for_finding(repo.author_id, host, finding.reason, detail, span, now_us)
    return detail


@retry_conflicts
def vouch(known: KnownRepo, epoch: int) -> None:
    """All that the PDS lists is as we have it, so nothing that a chain did not show is missing.

    Only if no commit came since `known` was read, which was before the listing: between two of them
    a source without a chain could have been read again.
    """
    if known.is_chained != repos.RECHAINED:
        return
    with patient_transaction():
        leases.fence(epoch)
        execute(
            "UPDATE repos SET is_chained = ?"
            " WHERE author_id = ? AND epoch = ? AND rev = ? AND is_chained = ?",
            (repos.CHAINED, known.author_id, known.epoch, known.rev, repos.RECHAINED),
        )


def _still_stands(
    repo: Repo, known: KnownRepo, finding: Finding, numbers: dict[str, int]
) -> str | None:
    match finding:
        case MissedCommit(rev):
            if repo.rev < rev:
                return f"the PDS has {int_to_tid(rev)}, we have {int_to_tid(repo.rev)}"
        case OtherStatus(is_shown, said, by):
            if bool(repo.is_active) != is_shown:
                return f"{by} says: {said}"
        case OtherRecords(differences):
            lasting = _unexplained(known, differences, numbers)
            if lasting:
                missing = sum(record.is_listed for record in lasting)
                first = f"{lasting[0].collection}/{lasting[0].rkey}"
                return f"{missing} missing, {len(lasting) - missing} too many, among them {first}"
    return None


def _unexplained(
    known: KnownRepo, differences: Sequence[RecordDifference], numbers: dict[str, int]
) -> list[RecordDifference]:
    """Those of which our row is as it was at the look: the stream has not touched it."""

    def key(record: RecordDifference) -> Key:
        return known.author_id, numbers[record.rkey], COLLECTIONS[record.collection]

    keys = {key(record) for record in differences}
    present = _present(keys)
    # What came and went again since leaves a mark of a later commit.
    deleted = {
        k
        for k, (rev, is_alive) in tombstones.load(keys).items()
        if rev > known.rev and not is_alive
    }
    return [
        record
        for record in differences
        if present.get(key(record)) == record.held and key(record) not in deleted
    ]


def _present(keys: set[Key]) -> dict[Key, Held]:
    """Which of these records have a row now."""
    follows = [key for key in keys if key[2] == COLLECTIONS[FOLLOW]]
    items = {key for key in keys if key[2] != COLLECTIONS[FOLLOW]}
    found: dict[Key, Held] = {key: row[0] for key, row in records.find(items).items()}
    columns = "t.viewer_id, t.rkey, (SELECT a.did FROM authors a WHERE a.id = t.subject_id)"
    for row in rows_by_key(columns, "follows", ("viewer_id", "rkey"), [k[:2] for k in follows]):
        found[row[0], row[1], COLLECTIONS[FOLLOW]] = row[2]
    return found
