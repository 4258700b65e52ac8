"""A batch of the stream: what it holds until it is saved, and what saving it did.

Promise: events in one batch mean what they mean in several, whatever came between them
(`Batch.then`).

Bounds: a part more than there are words on one account in a batch, so a hundred or so: that is when
the writer closes it (ingest/writer.py: WORD_CHANGES). Each costs what a batch of its own would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from server.core.projection import Change
from server.core.syntax import last_tid_of

# No TID is later, and no number in the database greater.
_LAST_REV = 2**63 - 1


class RepoCommit(NamedTuple):
    """What one commit does to our tables. `hole`: why part of it could not be read.

    `is_earlier`: it was told before the last word on its account, which may be saved already.
    """

    repo: str
    rev: int
    since: int
    changes: Sequence[Change]
    hole: str | None
    is_earlier: bool = False


@dataclass(slots=True)
class Batch:
    """What the stream brought since the last commit, in its order.

    Of each account: commits, and then at most one word, a `#sync` or what became of the account.
    What comes after such a word is in `then`, so that it means what it would mean in the next
    batch. Few accounts have a word, so what is there is small, or nothing.
    """

    commits: list[RepoCommit] = field(default_factory=list)
    # Account status by repo.
    statuses: dict[str, tuple[bool, str | None]] = field(default_factory=dict)
    # Repos that have to be fetched again: after a #sync, and because something came too late.
    resets: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    # Of repos that a #sync put at a rev: that rev, and the last that a commit before it can have.
    put_back: dict[str, tuple[int, int]] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)
    then: "Batch | None" = None

    def add_commit(self, commit: RepoCommit) -> None:
        """A commit came, after all that was added before."""
        self._open_to(commit.repo).commits.append(commit)

    def add_status(self, did: str, is_active: bool, status: str | None) -> None:
        """An account was said to be there or not, after all that was added before."""
        self._open_to(did).statuses[did] = (is_active, status)

    def add_sync(self, did: str, rev: int = 0, time_ms: int = 0) -> None:
        """A repo's own word came that no commit continues it, after all that was added before.

        `rev`: where the repo stands by it, 0 if that is not known; `time_ms`: when it was said, by
        the clock of who said it, as revs are.
        """
        part = self._open_to(did)
        part.resets.add(did)
        if rev:
            part.put_back[did] = (rev, min(last_tid_of(time_ms), _LAST_REV))

    def add_late(self, did: str) -> None:
        """The next commit of this repo comes too late to be put in its place."""
        self._open_to(did).late.add(did)

    def _open_to(self, did: str) -> "Batch":
        part = self
        while did in part.statuses or did in part.resets:
            if part.then is None:
                part.then = Batch()
            part = part.then
        return part

    def parts(self) -> Iterator["Batch"]:
        """Itself, and what came then, in turn."""
        part: Batch | None = self
        while part is not None:
            yield part
            part = part.then

    def accounts(self) -> set[str]:
        """Whom this part speaks of."""
        words = self.statuses.keys() | self.resets | self.late | self.identities
        return words | {commit.repo for commit in self.commits}

    def __bool__(self) -> bool:
        return bool(self.commits or self.statuses or self.resets or self.late or self.identities)


@dataclass(slots=True)
class BatchResult:
    """How many rows a batch wrote, and which authors have to be fetched again, and why.

    `already_seen`: commits that were passed over, because a replay or a backfill had them.
    """

    saved: int = 0
    dropped: int = 0
    already_seen: int = 0
    holes: dict[int, str] = field(default_factory=dict)

    def add(self, other: "BatchResult") -> None:
        """What another part of the batch did, too."""
        self.saved += other.saved
        self.dropped += other.dropped
        self.already_seen += other.already_seen
        self.holes = other.holes | self.holes
