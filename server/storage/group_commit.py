"""Group commit: the writes of many threads, made by one thread in as few transactions as can be.

A caller waits until the transaction that holds its write has ended, and gets the write's result.
What one caller writes is atomic, because the group is. While a group is written the next one
gathers, so the busier it is, the larger the groups, up to MAX_GROUP writes, or to the one with
which they have MAX_CHANGES; nobody waits for a timer.

A write is a function and its argument. Those that have the function in common are saved by one call
of it, with all their arguments, so by few statements: a statement of its own for each of sixty
pages takes longer than the pages. The same function means the same object, one of a module's.

A write that raises takes its whole group with it: nothing of the group is saved, and every caller
in it gets the exception. So writes may raise only what should end the lead: a broken database, a
lost lease. Callers have no connection of their own, and no author has two writes under way. Since
when the database keeps a group waiting is in `wait`, for stalls.py.

A group takes its locks in the order of conflicts.py: all new accounts and record keys are numbered
before the transaction, and the repos of all writes are locked at its beginning.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from server.core.projection import Change
from server.storage import items, leases
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.database import release
from server.storage.items import Names
from server.storage.opening import patient_transaction
from server.storage.repos import load_repos
from server.storage.stalls import DatabaseWait

A = TypeVar("A")
R = TypeVar("R")

# One author's newest pages are a millisecond's work. The stream's reader waits for no more of them.
MAX_GROUP = 64
# So many pages of a hundred. One of a PDS with an order of its own may have 30,000 records alone
# (backfill/listing.py): 64 of these would be a minute.
MAX_CHANGES = 6_400


@dataclass(frozen=True, slots=True)
class Group:
    """What the writes of one transaction have in common: the numbers of all that they name."""

    names: Names
    now_us: int


@dataclass(frozen=True, slots=True)
class Write:
    """`save` with `argument`, and others'; a result for each. `repo`: whose is locked.

    `changes`: what it saves, and so has to name.
    """

    save: Callable[[Sequence[Any], Group], Sequence[Any]]
    argument: Any
    repo: int | None = None
    changes: Sequence[Change] = ()
    done: Future[Any] = field(default_factory=Future)


class GroupCommit:
    """`run` in one thread; `write` from any other, while it runs. For as long as `epoch` leads."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.wait = DatabaseWait("backfill")
        self._waiting: SimpleQueue[Write | None] = SimpleQueue()

    def write(
        self,
        save: Callable[[Sequence[A], Group], Sequence[R]],
        argument: A,
        repo: int | None = None,
        changes: Sequence[Change] = (),
    ) -> R:
        """The result that `save` has for `argument`, when it is saved. See `Write`."""
        write = Write(save, argument, repo, changes)
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
                    results = commit_group(group, self.epoch, time.time_ns() // 1000)
            except BaseException as error:  # noqa: BLE001  every caller raises it
                for write in group:
                    write.done.set_exception(error)
            else:
                crash_point("group: committed, nobody told")
                for write, result in zip(group, results, strict=True):
                    write.done.set_result(result)
            finally:
                release()

    def _next_group(self) -> list[Write]:
        """What waits, as far as it fits, after waiting for the first; empty at the end."""
        group: list[Write] = []
        changes = 0
        write = self._waiting.get()
        while write is not None:
            group.append(write)
            changes += len(write.changes)
            if len(group) == MAX_GROUP or changes >= MAX_CHANGES:
                break
            try:
                write = self._waiting.get_nowait()
            except Empty:
                break
        if write is None and group:
            # For the next look.
            self._waiting.put(None)
        return group


@retry_conflicts
def commit_group(writes: Sequence[Write], epoch: int, now_us: int) -> list[Any]:
    """Save these in one transaction; a result for each. Raises LeaseLost when somebody else leads.

    A group that lost against another transaction is saved again: a `save` may be called twice.
    """
    names = items.name([change for write in writes for change in write.changes], ())
    with patient_transaction():
        leases.fence(epoch)
        load_repos(write.repo for write in writes if write.repo is not None)
        return _save(writes, Group(names, now_us))


def one_by_one(actions: Sequence[Callable[[], R]], _group: Group) -> list[R]:
    """A `save` for what is rare: each argument is what there is to do."""
    return [action() for action in actions]


def _save(writes: Sequence[Write], group: Group) -> list[Any]:
    alike: defaultdict[Any, list[int]] = defaultdict(list)
    for place, write in enumerate(writes):
        alike[write.save].append(place)
    results: dict[int, Any] = {}
    for save, places in alike.items():
        saved = save([writes[place].argument for place in places], group)
        results.update(zip(places, saved, strict=True))
    return [results[place] for place in range(len(writes))]
