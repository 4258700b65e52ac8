"""What the backfill's jobs and looks have in common: whom they ask, and what absence is called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.backfill.locate import NOT_LISTED
from server.core.projection import Change
from server.identity.did import Directory
from server.identity.fetcher import Fetcher

# What a PDS may say of a repo that it does not show, and the directory: our words, from theirs.
STATUSES = {
    "RepoDeactivated": "deactivated",
    "RepoTakendown": "takendown",
    "RepoSuspended": "suspended",
    "RepoNotFound": "deleted",
    NOT_LISTED: "unlisted",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What a job needs of the world.

    `write` does in a transaction what it is given, with the author whose repo that is about, and
    what it saves: see GroupCommit.
    """

    fetcher: Fetcher
    directory: Directory
    backfill_days: int
    epoch: int
    write: Callable[[Callable[[], Any], int, Sequence[Change]], Any] = (
        lambda action, _author_id, _changes: action()
    )
