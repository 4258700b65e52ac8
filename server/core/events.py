"""What a source told us, decoded once at the border. No I/O, and no meaning yet: see projection.

Commit, its ops and Skipped are named tuples: there is one for each frame, and a frozen dataclass
takes two to four times as long to make.
"""

from dataclasses import dataclass
from typing import NamedTuple

# The `since` of a commit whose source does not show which commit came before: Jetstream.
UNTOLD = -1


class RecordOp(NamedTuple):
    """One change in a commit. `record` and `cid` are None for a delete.

    `cid` is the raw CID, 36 bytes (version 1, DAG-CBOR, SHA-256). `is_edit`: the record was there
    before, and said something else.
    """

    collection: str
    rkey: str
    cid: bytes | None
    record: object
    is_edit: bool = False


class Commit(NamedTuple):
    """One commit of a tracked repo. `rev` and `since` are TIDs as numbers; `since` 0: none given.

    With `since` UNTOLD it may be one of several events that make up the commit, in their order.

    `ops` holds what we may want of it, in order. `hole` says why some of it could not be read
    (tooBig, a block that is missing or broken), so that the author has to be fetched again.
    """

    seq: int
    time_ms: int
    repo: str
    rev: int
    since: int
    ops: tuple[RecordOp, ...]
    hole: str | None = None


@dataclass(frozen=True, slots=True)
class Sync:
    """The repo was reset to a state that the stream does not show.

    `rev` is that state's, a TID as a number, which may be an earlier one than commits have shown;
    0: not told.
    """

    seq: int
    time_ms: int
    repo: str
    rev: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """Whether an account is to be shown; `status` is from an open set, None when active."""

    seq: int
    time_ms: int
    repo: str
    active: bool
    status: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Handle, PDS or key of an account may have changed."""

    seq: int
    time_ms: int
    repo: str


@dataclass(frozen=True, slots=True)
class Info:
    """A word of the source about the stream itself, e.g. OutdatedCursor. It has no number."""

    name: str


class Skipped(NamedTuple):
    """An event about nobody whom we track, or of an unknown kind. Only its place counts."""

    seq: int
    time_ms: int


Event = Commit | Sync | Account | Identity | Info | Skipped
