"""Group commit: the writes of many threads, made by one thread in as few transactions as can be.

A caller waits until the transaction that holds its write has ended, and gets the write's result.
What one caller writes is atomic, because the group is. While a group is written the next one
gathers, so the busier it is, the larger the groups, up to MAX_GROUP; nobody waits for a timer.

A write that raises takes its whole group with it: nothing of the group is saved, and every caller
in it gets the exception. So writes may raise only what should end the lead: a broken database, a
lost lease. Callers have no connection of their own. Since when the database keeps a group waiting
is in `wait`, for stalls.py.

A group takes its locks in the order of conflicts.py: all new accounts and record keys are numbered
before the transaction, and the repos of all writes are locked at its beginning.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from server.core.projection import Change
from server.storage import items
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.database import release, write_transaction
from server.storage.repos import load_repos
from server.storage.stalls import DatabaseWait

R = TypeVar("R")

# One author's newest pages are a millisecond's work. The stream's reader waits for no more of them.
MAX_GROUP = 64


class GroupCommit:
    """`run` in one thread; `write` from any other, while it runs."""

    def __init__(self) -> None:
        self.wait = DatabaseWait("backfill")
        self._waiting: SimpleQueue[_Write | None] = SimpleQueue()

    def write(
        self, action: Callable[[], R], repo: int | None = None, changes: Sequence[Change] = ()
    ) -> R:
        """Do `action` in a transaction, which may hold others' actions; its result when saved.

        `repo`: the author whose repo it locks. `changes`: what it saves, and so has to name.
        """
        write = _Write(action, repo, changes)
        self._waiting.put(write)
        result: R = write.done.result()
        return result

    def end(self) -> None:
        """Let `run` return once everything before this is written. Nobody may write after it."""
        self._waiting.put(None)

    def run(self) -> None:
        """Write until `end`."""
        while group := self._next_group():
            try:
                with self.wait.under_way():
                    results = _commit(group)
            except BaseException as error:  # noqa: BLE001  every caller raises it
                for write in group:
                    write.done.set_exception(error)
            else:
                crash_point("group: committed, nobody told")
                for write, result in zip(group, results, strict=True):
                    write.done.set_result(result)
            finally:
                release()

    def _next_group(self) -> list["_Write"]:
        """Everything that waits, after waiting for the first; empty at the end."""
        group: list[_Write] = []
        write = self._waiting.get()
        while write is not None:
            group.append(write)
            if len(group) == MAX_GROUP:
                break
            try:
                write = self._waiting.get_nowait()
            except Empty:
                break
        if write is None and group:
            # For the next look.
            self._waiting.put(None)
        return group


class _Write:
    __slots__ = ("action", "changes", "done", "repo")

    def __init__(
        self, action: Callable[[], Any], repo: int | None, changes: Sequence[Change]
    ) -> None:
        self.action = action
        self.repo = repo
        self.changes = changes
        self.done: Future[Any] = Future()


@retry_conflicts
def _commit(group: list[_Write]) -> list[Any]:
    items.name([change for write in group for change in write.changes], ())
    with write_transaction():
        load_repos(write.repo for write in group if write.repo is not None)
        return [write.action() for write in group]
