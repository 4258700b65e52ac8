"""The connection to SQLite or PostgreSQL, transactions, and the few helpers of SQL that both share.

Promises. One statement text runs on both databases: `?` marks a parameter, and the dialects differ
only here, in `leases.py` and in the migrations. Each thread has its own connection, opened at first
use (pages of feeds are read over others in SQLite: shared_readers.py); PostgreSQL's come from a
bounded pool and go back with `release()`. A transaction that will write says so with
`write_transaction()`. A database that is gone raises DatabaseError to the caller; what may be tried
again is in conflicts.py. What a thread reads within `reading_from()` comes from a replica
(replicas.py); what it writes never does.

Bounds: those of opening.py.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from peewee import Database, DatabaseProxy, PeeweeException
from playhouse.pool import PooledPostgresqlDatabase

from server.storage.allowance import left_s, require_time
from server.storage.ownership import open_own
from server.storage.reader import reader
from server.storage.shared_readers import SharedReaders, SqliteWithReaders

database = DatabaseProxy()

# Whatever goes wrong between us and the database. A caller may only answer "not now", or stop.
DatabaseError = PeeweeException

# Threads of one process that want to write to SQLite queue here.
_sqlite_writer = threading.Lock()


def close_database() -> None:
    """Close this thread's connection, and the idle ones of those that threads share."""
    if isinstance(database.obj, PooledPostgresqlDatabase):
        database.obj.close_all()
    elif isinstance(database.obj, SqliteWithReaders):
        database.obj.readers.close()
        database.close()


def release() -> None:
    """Give this thread's connection back. SQLite's is kept: to open one costs more."""
    if not is_sqlite() and not database.is_closed():
        database.close()


def is_sqlite() -> bool:
    """Which of the two databases it is."""
    return isinstance(database.obj, SqliteWithReaders)


def shared_readers() -> SharedReaders:
    """Of SQLite: what reads the pages of feeds, for all threads."""
    found: SharedReaders = database.obj.readers
    return found


def sqlite_path() -> Path:
    """The file of an SQLite database."""
    return Path(database.obj.database)


@contextmanager
def write_transaction() -> Iterator[None]:
    """One transaction that is going to write; inside another one, a part of that.

    On SQLite it takes the write lock at once. A transaction that reads first and writes later fails
    with SQLITE_BUSY if another writer came between, however long the busy timeout is.
    """
    if database.in_transaction():
        # No savepoint: what fails here fails the whole.
        yield
        return
    require_time()
    began = time.perf_counter()
    turn, modes = (_sqlite_turn(), ("IMMEDIATE",)) if is_sqlite() else (nullcontext(), ())
    with turn, database.atomic(*modes):
        _spent.seconds += time.perf_counter() - began
        _ending.steps = []
        try:
            yield
            for step in _ending.steps:
                step()
        finally:
            _ending.steps = None
        began = time.perf_counter()
    _spent.seconds += time.perf_counter() - began


class Step(Protocol):
    """What one transaction has still to do, as gathered until its end."""

    def __call__(self) -> None:
        """Do it, inside of the transaction."""


S = TypeVar("S", bound=Step)


def step_at_the_end(kind: type[S]) -> S:
    """The one step of its kind at the end of this thread's transaction, made if there is none."""
    if _ending.steps is None:
        raise RuntimeError("this has to be done within a write_transaction()")
    for step in _ending.steps:
        if isinstance(step, kind):
            return step
    made = kind()
    _ending.steps.append(made)
    return made


@contextmanager
def _sqlite_turn() -> Iterator[None]:
    """Our turn to write, among threads and processes.

    SQLite's own waiting is a poll with growing pauses: beside a busy writer it took 0.8 s at the
    90th percentile where this queue of the kernel's took 8 ms. A process that is stopped (not
    killed) inside a transaction keeps the others waiting until it goes on: of a web process one
    thread, which waits in the kernel's queue, and the others for `turn_seconds` (opening.py).
    """
    if database.in_transaction():
        yield
        return
    with _turn_of_thread(database.obj.turn_seconds):
        try:
            file = open_own(Path(f"{sqlite_path()}.write-lock"), os.O_RDWR)
        except OSError as error:
            raise DatabaseError(f"nothing can be written beside the database: {error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


@contextmanager
def _turn_of_thread(seconds: float) -> Iterator[None]:
    if not _sqlite_writer.acquire(timeout=seconds):
        raise DatabaseError(f"others have been writing for {seconds:.0f} s")
    try:
        yield
    finally:
        _sqlite_writer.release()


class _Ending(threading.local):
    """What this thread's transaction has still to do; None outside of one."""

    steps: list[Step] | None = None


_ending = _Ending()


class _Spent(threading.local):
    """How long this thread has waited for the database."""

    seconds = 0.0


_spent = _Spent()


def take_seconds() -> float:
    """The seconds that this thread's statements took since it last asked, locks included."""
    seconds, _spent.seconds = _spent.seconds, 0.0
    return seconds


def add_seconds(seconds: float) -> None:
    """Count time that a statement took elsewhere."""
    _spent.seconds += seconds


def require_time_to_begin() -> None:
    """Raise OutOfTimeError if this thread may begin no statement any more, but to end a write."""
    if left_s() < 0 and not database.in_transaction():
        require_time()


def rows(sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query, or of a statement with RETURNING."""
    began = time.perf_counter()
    replica = reader()
    try:
        if replica is not None:
            return replica.rows(_translate(sql), parameters)
        require_time_to_begin()
        return list(database.execute_sql(_translate(sql), parameters).fetchall())
    finally:
        _spent.seconds += time.perf_counter() - began


def value(sql: str, parameters: Sequence[object] = ()) -> Any:
    """The first column of the first row; None without a row."""
    found = rows(sql, parameters)
    return found[0][0] if found else None


def execute(sql: str, parameters: Sequence[object] = ()) -> int:
    """Run a statement that writes; the number of rows it touched."""
    require_time_to_begin()
    began = time.perf_counter()
    try:
        with _sqlite_turn() if is_sqlite() else nullcontext():
            return int(database.execute_sql(_translate(sql), parameters).rowcount)
    finally:
        _spent.seconds += time.perf_counter() - began


def for_update() -> str:
    """What makes a SELECT of PostgreSQL lock its rows. In SQLite the whole transaction does."""
    return "" if is_sqlite() else "FOR UPDATE"


def lock_table(name: str) -> None:
    """Nobody else writes to the table until the transaction ends; whoever has must end first.

    In SQLite the whole transaction is enough for that.
    """
    if not is_sqlite():
        execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")


def _translate(sql: str) -> str:
    return sql if is_sqlite() else sql.replace("?", "%s")


def current() -> Database:
    """The bound database, for the migration runner."""
    bound: Database = database.obj
    return bound
