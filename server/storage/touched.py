"""Whose part of pages was changed, told to processes that keep items in memory.

Promises. Whoever changes what pages show notes whose part it is, in the same transaction (`touch`).
That is: an account's items, with what they hang on; whether the account is shown, and how complete
it is with us; what we know of its posts as an outsider; and whom it follows as a viewer. Whoever
looks (`Listener.look`) is told all that was committed since the last look began, at least once,
or that too much was for a list. So what was read after one look, and not named by the next, is as
the database has it at the time of the next.

In SQLite transactions write one after the other, and rows are numbered in that order. In PostgreSQL
they end in any order. A row has the number of its transaction, and each look says which numbers
were all decided (`xmin` of its snapshot): the next one asks from there on, and passes over what it
has seen already. A server that crashed may give a number anew that was below such a place; so when
the connection turns out to be broken, the listener is told everybody. A dump brings the numbers of
the cluster that it was made in: `forget` drops those that no transaction here can have had yet.

A statement of PostgreSQL can say itself that what it finds is as at the last look (`NOTED_SINCE`,
with the look's `Heard`). It sees what the look saw, as it began later, and what was committed in
between, all of it by transactions that were no part of the look's snapshot: their rows in `touched`
show that. If there are none, and none were dropped since, nothing was changed. That is so on one
server, from one start to its end. So it counts only over a connection that was open before the look
began: had the server crashed meanwhile, that connection would have ended.

Bounds: MOST_ACCOUNTS of one row, and MOST_ROWS of one look: what is more is called everybody.
`forget` drops rows; a listener that has not looked since they came is told everybody, too. Beside a
statement about as many rows are looked at as by the look that it refers to, and none after one that
found too many.
"""

import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peewee import OperationalError

from server.storage.allowance import OutOfTimeError, left_s, require_time
from server.storage.database import (
    DatabaseError,
    execute,
    is_sqlite,
    sqlite_path,
    step_at_the_end,
    write_transaction,
)
from server.storage.prepared import prepared_line, prepared_rows
from server.storage.wal_index import WalIndex, wal_index

MOST_ACCOUNTS = 5_000
MOST_ROWS = 5_000
# How long a look waits for those of other threads. The AppView gives up after 5 s.
TURN_SECONDS = 3.0

# Of a listener that has heard nothing: before all places.
_NOWHERE = -1
# In PostgreSQL: the lowest number whose transaction is not over, and one above all that are.
_UNDECIDED = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_TO_COME = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
# Not on a standby, where it does not say which transactions are under way.
_SNAPSHOT = "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END"
# Each row says also which rows are gone, from which place on to look next, and PostgreSQL's
# snapshot; there is always one.
_SINCE = {
    True: (
        "SELECT g.place, (SELECT coalesce(max(place), 0) + 1 FROM touched), NULL,"
        " t.place, t.accounts"
        " FROM touched_gone g LEFT JOIN (SELECT place, accounts FROM touched"
        " WHERE place >= :place ORDER BY place LIMIT :most) t ON 1 = 1"
    ),
    False: (
        f"SELECT g.place, {_UNDECIDED}, {_SNAPSHOT}, t.id, t.accounts"
        " FROM touched_gone g LEFT JOIN (SELECT id, accounts FROM touched"
        " WHERE place >= :place ORDER BY place LIMIT :most) t ON 1 = 1"
    ),
}

# Of PostgreSQL: what is true in a statement that may have found what was not there at the time of
# the look that had this :snapshot.
_UNDECIDED_THEN = "pg_snapshot_xmin(:snapshot)::text::bigint"
NOTED_SINCE = (
    f"(EXISTS (SELECT 1 FROM touched t WHERE t.place >= {_UNDECIDED_THEN}"
    " AND NOT pg_visible_in_snapshot(t.place::text::xid8, :snapshot))"
    f" OR EXISTS (SELECT 1 FROM touched_gone g WHERE g.place > {_UNDECIDED_THEN}))"
)


def touch(accounts: Iterable[int]) -> None:
    """Note that the part of these accounts changes, in the transaction that changes it."""
    step_at_the_end(_Note).accounts.update(accounts)


def touch_everybody() -> None:
    """Note that everybody's part changes, in the transaction that changes it."""
    step_at_the_end(_Note).is_of_everybody = True


@dataclass(slots=True)
class _Note:
    """What one transaction touched: it writes one row, at its end."""

    accounts: set[int] = field(default_factory=set)
    is_of_everybody: bool = False

    def __call__(self) -> None:
        if self.is_of_everybody or len(self.accounts) > MOST_ACCOUNTS:
            execute("INSERT INTO touched (accounts) VALUES (NULL)")
        elif self.accounts:
            numbers = array("i", sorted(self.accounts))
            execute("INSERT INTO touched (accounts) VALUES (?)", (numbers.tobytes(),))


def place_of_now() -> int:
    """The place below which all is decided, for a later `forget`."""
    return int(prepared_rows(_SINCE[is_sqlite()], {"place": 0, "most": 0})[0][1])


def forget(below: int) -> None:
    """Drop what was noted below this place: who still has to hear of it is told everybody."""
    with write_transaction():
        if not is_sqlite():
            _forget_other_cluster()
        execute("UPDATE touched_gone SET place = ? WHERE place < ?", (below, below))
        # The last row stays, or SQLite would begin to number anew.
        execute(
            "DELETE FROM touched WHERE place < ? AND place < (SELECT max(place) FROM touched)",
            (below,),
        )


def _forget_other_cluster() -> None:
    # What is committed here has no number that is to come. All that was ever dropped here stood
    # below what was undecided then, and so below what is undecided now.
    execute(f"UPDATE touched_gone SET place = {_UNDECIDED} WHERE place >= {_TO_COME}")
    execute(f"DELETE FROM touched WHERE place >= {_TO_COME}")


class Heard(NamedTuple):
    """Of what a look told: all that was committed as of this `snapshot`, taken after `began_s`."""

    began_s: float
    snapshot: str


class Listener:
    """What one process has heard. Safe to share between threads.

    `hear` is called with the accounts that were touched, or with None for everybody; by one thread
    at a time.
    """

    def __init__(self, hear: Callable[[Sequence[int] | None], None]) -> None:
        self._hear = hear
        self._turn = threading.Lock()
        self._begun = self._ended = 0
        self._place = _NOWHERE
        # Of the last look. None before there was one, and where it found too much; in SQLite, and
        # on a standby.
        self.heard: Heard | None = None
        # Finds what was noted since; set at the first look.
        self._ask: Callable[[Mapping[str, int]], list[tuple[Any, ...]]] | None = None
        # Of SQLite: what the state was before the last look.
        self._state: bytes | None = None
        self._index: WalIndex | None = None
        self._is_asked_for = False
        # Numbers of rows that were heard of already, as far as they can come again.
        self._seen: set[int] = set()

    def look(self) -> None:
        """Return when all was heard that was committed before the call. Raises DatabaseError.

        Who comes while others look is served by one look for all of them. In SQLite nobody looks
        while nothing is committed (wal_index.py).
        """
        state = self._state_now()
        if state is not None and state == self._state:
            return
        require_time()
        enough = self._begun + 1
        if not self._turn.acquire(timeout=max(0.0, min(left_s(), TURN_SECONDS))):
            require_time()
            raise OperationalError(f"a look at what was touched takes over {TURN_SECONDS:.0f} s")
        try:
            if self._ended < enough:
                self._begun += 1
                self._look()
                self._ended = self._begun
                self._state = state
        finally:
            self._turn.release()

    def _state_now(self) -> bytes | None:
        """What changes with each commit, where that can be had for less than a statement."""
        if not self._is_asked_for:
            self._is_asked_for = True
            # A file system on which SQLite cannot share memory has no such index.
            with suppress(OSError, sqlite3.Error):
                if is_sqlite():
                    self._index = wal_index(sqlite_path())
        return None if self._index is None else self._index.state()

    def _look(self) -> None:
        # A look that fails leaves it nowhere: who knows what happened meanwhile.
        place, self._place = self._place, _NOWHERE
        self._ask = self._ask or prepared_line(_SINCE[is_sqlite()])
        most, began_s = MOST_ROWS + 1, time.monotonic()
        try:
            found = self._ask({"place": place, "most": most})
        except OutOfTimeError:
            # Nothing was heard, and nothing happened that the next look will not be told.
            self._place = place
            raise
        except DatabaseError:
            if place == _NOWHERE:
                raise
            # The server was restarted, say. One that crashed can give the numbers of transactions
            # whose end it had not noted yet to others.
            require_time()
            place = _NOWHERE
            found = self._ask({"place": place, "most": most})
        gone, following, snapshot = found[0][:3]
        heard = {number: accounts for *_, number, accounts in found if number is not None}
        fresh = [accounts for number, accounts in heard.items() if number not in self._seen]
        is_too_much = len(heard) > MOST_ROWS
        if place < gone or is_too_much or None in fresh:
            self._hear(None)
        elif fresh:
            self._hear(array("i", b"".join(map(bytes, fresh))))
        self._seen = set(heard)
        self._place = following
        self.heard = None if snapshot is None or is_too_much else Heard(began_s, snapshot)
