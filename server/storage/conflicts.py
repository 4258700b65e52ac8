"""Transactions that PostgreSQL ended for another's sake, and that may be run again.

Two that wait for each other cost a second, and one of them its work. So locks are taken in one
order, by the stream's batches, the backfill's groups and everybody else:

1. New accounts and record keys are numbered before the transaction, in statements of their own,
   sorted (items.name).
2. The lead is shared (leases.fence). Whoever takes it for themselves holds nothing else.
3. The repos that are written to are locked, sorted, all at once (repos.load_repos). Each stands for
   what is its author's: items, marks, follows, gaps, job, identity. Whoever changes an author's
   rows without it does nothing else in that transaction.
4. The table of follows is shared by all who write to it, but for `forget`.
5. Repos of those whom they follow, where these are let go or may be (repos.track), sorted.
6. The counter of versions.
7. At the end come posts of strangers, sorted (outside_posts.want), and what was touched.

In no order, because it is rare: rows of follow_backs, which belong to two accounts, and the viewer
of these, who must not be forgotten meanwhile; jobs for which somebody else comes to wait, or goes
(jobs.hurry, jobs.take_time); 5 after 6 when two viewers in one group follow somebody, 4 after 6
when a viewer is gone for good (departures.purge), and both in a later part of a batch (batch.py);
records of two authors that want the same place; old rows of many accounts that the schedule deletes
in one statement (each `expire`).
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from server.storage.database import DatabaseError, database

log = logging.getLogger(__name__)

# How often a transaction is run again that lost against another one.
MAX_CONFLICTS = 8
# PostgreSQL's words for that: deadlock, serialization failure, unique violation.
_CONFLICTS = ("40P01", "40001", "23505")

P = ParamSpec("P")
R = TypeVar("R")


def retry_conflicts(transaction: Callable[P, R]) -> Callable[P, R]:
    """Run a function that is one transaction again when PostgreSQL chose it as a deadlock's victim.

    Also when two transactions took the same sort key: only the database sees that. SQLite has one
    writer at a time, and so neither. Inside another transaction, that one is run again: a failure
    has ended it.
    """

    @wraps(transaction)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(0 if database.in_transaction() else MAX_CONFLICTS):
            try:
                return transaction(*args, **kwargs)
            except DatabaseError as error:
                # peewee raises its own error while it handles the driver's, and not `from` it.
                if getattr(error.__context__, "pgcode", None) not in _CONFLICTS:
                    raise
                log.info("transaction run again: %s", str(error).splitlines()[0])
        return transaction(*args, **kwargs)

    return run
