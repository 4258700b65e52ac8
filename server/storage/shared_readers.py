"""A few connections to SQLite that all threads of a process share, for the pages of feeds.

Elsewhere each thread has a connection of its own (database.py). With sixteen of them, each finds
its statements and pages gone from the processor's caches when its turn has come, and has a cache of
pages of its own to fill (docs/decisions.md has what that costs).

Promises. A statement sees one moment, and all that was committed before it began; it writes
nothing. AT_ONCE statements run at once, in each process; the others wait, TURN_SECONDS at most, and
a statement that runs for STATEMENT_SECONDS is ended: both raise OutOfTimeError, which is a
DatabaseError. Neither outlasts what a request may take in all (allowance.py). A connection that
failed is closed.
"""

import sqlite3
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from peewee import OperationalError, PeeweeException, SqliteDatabase

from server.storage.allowance import OutOfTimeError, left_s

# Two, so that one viewer's long statement does not keep everybody waiting.
AT_ONCE = 2
# The AppView gives up after 5 s.
TURN_SECONDS = 3.0
STATEMENT_SECONDS = 5.0
# How many of SQLite's instructions between two looks at the clock: some milliseconds.
INSTRUCTIONS_A_LOOK = 200_000


class SharedReaders:
    """Of one database file. Safe to share between threads, and not between processes."""

    def __init__(self, path: str, pragmas: Mapping[str, object]) -> None:
        self._path = path
        self._pragmas = {**pragmas, "query_only": 1}
        # Whoever takes one has a turn; None is a turn whose connection is still to be opened. A
        # queue in C, because threads wait here all the time when many people ask.
        self._turns: SimpleQueue[_Reader | None] = SimpleQueue()
        for _ in range(AT_ONCE):
            self._turns.put(None)

    def rows(self, sql: str, values: Mapping[str, int | str]) -> list[tuple[Any, ...]]:
        """All rows of a query with `:name` parameters. Raises DatabaseError."""
        turn_s = max(0.0, min(TURN_SECONDS, left_s()))
        try:
            reader = self._turns.get(timeout=turn_s)
        except Empty:
            message = f"{AT_ONCE} statements have run for {turn_s:.1f} s"
            raise OutOfTimeError(message) from None
        left = None
        try:
            reader = reader or _Reader(self._path, self._pragmas)
            found = reader.rows(sql, values)
            left = reader
        finally:
            self._turns.put(left)
        return found

    def close(self) -> None:
        """Close those that nobody uses now. The next statement opens one."""
        for _ in range(AT_ONCE):
            try:
                reader = self._turns.get_nowait()
            except Empty:
                return
            if reader is not None:
                reader.close()
            self._turns.put(None)


class SqliteWithReaders(SqliteDatabase):
    """The house's SQLite database, and with it those who read pages from it.

    `turn_seconds`: how long a thread may wait behind others of its process to write; -1: for ever.
    """

    def __init__(
        self, path: str, pragmas: Mapping[str, object], turn_seconds: float = -1, **options: Any
    ) -> None:
        super().__init__(path, pragmas=dict(pragmas), **options)
        self.turn_seconds = turn_seconds
        self.readers = SharedReaders(path, pragmas)


class _Reader:
    """One connection, in use by one thread at a time."""

    def __init__(self, path: str, pragmas: Mapping[str, object]) -> None:
        self._database = SqliteDatabase(
            path, thread_safe=False, check_same_thread=False, pragmas=dict(pragmas)
        )
        self._until_s = 0.0
        connection = self._database.connection()
        connection.set_progress_handler(self._is_over, INSTRUCTIONS_A_LOOK)

    def rows(self, sql: str, values: Mapping[str, int | str]) -> list[tuple[Any, ...]]:
        """All rows; whoever gets an error instead has no connection any more."""
        self._until_s = time.monotonic() + min(STATEMENT_SECONDS, left_s())
        try:
            return list(self._database.execute_sql(sql, values).fetchall())
        except (sqlite3.Error, PeeweeException) as error:
            # peewee does not see what goes wrong after the first row.
            self.close()
            kind = OutOfTimeError if self._is_over() else OperationalError
            raise kind(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def _is_over(self) -> bool:
        return time.monotonic() > self._until_s
