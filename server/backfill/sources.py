"""What the backfill's jobs and looks have in common: whom they ask, and what absence is called."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from server.backfill.locate import NOT_LISTED
from server.core.projection import Change
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.storage.group_commit import Group, GroupCommit, Write, commit_group

A = TypeVar("A")
R = TypeVar("R")

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
    """What a job or a look needs of the world. `retention_days`: older items may have been let go.

    Without `writer`, each write is a group of its own.
    """

    fetcher: Fetcher
    directory: Directory
    backfill_days: int
    retention_days: int
    epoch: int
    writer: GroupCommit | None = None

    def write(
        self,
        save: Callable[[Sequence[A], Group], Sequence[R]],
        argument: A,
        author_id: int,
        changes: Sequence[Change] = (),
    ) -> R:
        """Do it in a transaction, which may hold others' writes: see GroupCommit."""
        if self.writer is not None:
            return self.writer.write(save, argument, author_id, changes)
        alone = Write(save, argument, author_id, changes)
        result: R = commit_group([alone], self.epoch, time.time_ns() // 1000)[0]
        return result
