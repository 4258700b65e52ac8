"""Binds the house's database: which one it is, and what each connection to it is told.

Bounds, each larger in a process that works for itself than in one that answers requests. Of SQLite:
BUSY_SECONDS or TURN_SECONDS for a lock; among our own writers, who queue (database.py), no bound,
or TURN_SECONDS behind another thread. Of PostgreSQL: STATEMENT_MS or PAGE_STATEMENT_MS for a
statement, but in a patient_transaction(). Pages have bounds of their own (shared_readers.py,
replica_connection.py). And for all: IDLE_TRANSACTION_MS for a transaction of PostgreSQL in which
nothing happens, `max_connections` for the pool. What is ended raises DatabaseError, and its
connection goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import parse_dsn

from server.core.errors import ConfigError
from server.storage.authors import forget_dids
from server.storage.connection_pool import ConnectionPool
from server.storage.database import database, execute, is_sqlite, write_transaction
from server.storage.follow_counts import forget_counts
from server.storage.one_history import OneHistory
from server.storage.prepared import PLANNING, Connection
from server.storage.shared_readers import SqliteWithReaders

# How long a writer waits for another process's transaction. Ours last milliseconds; a backup or a
# migration may take longer.
BUSY_SECONDS = 15
# Then a known viewer is still shown their page in time (web/sightings.py).
TURN_SECONDS = 3.0
# A statement that takes longer is a bug or a sick server. Waiting for locks counts.
STATEMENT_MS = 20_000
# The AppView gives up after 5 s (10 s before its version 0.0.278): nobody waits for the page any
# more, and others want its thread.
PAGE_STATEMENT_MS = 5_000
# A process that is paused inside a transaction (stopped, swapped out, cut off) keeps its rows
# locked, among them the lead's, and nobody could take over. Ours are never idle for a second.
IDLE_TRANSACTION_MS = 10_000

# What a connection to SQLite is told at first.
_READ_PRAGMAS: dict[str, object] = {
    "cache_size": -64_000,
    "mmap_size": 1 << 30,
    "temp_store": "memory",
}
_WRITE_PRAGMAS: dict[str, object] = {
    # Readers and the writer do not wait for each other.
    "journal_mode": "wal",
    # With WAL this survives a crash of ours untorn; a power cut may take the last transactions,
    # whole ones, cursor and rows together.
    "synchronous": "normal",
}


def open_database(
    url: str,
    max_connections: int = 8,
    *,
    must_exist: bool = False,
    read_only: bool = False,
    for_requests: bool = False,
    leave: Callable[[], None] | None = None,
) -> None:
    """Bind `database` to a `sqlite:///FILE` or `postgresql://…` URL. Connects at first use.

    `read_only`: the database itself refuses every write. `for_requests`: those who asked do not
    wait for long. `leave`: ends this process, when the server turns out to be of another
    history than at first (one_history.py). Raises ConfigError when the folder of an SQLite file
    cannot be made, or the file must be there and is not; and for a URL that the driver cannot read,
    in words of ours, because its own may hold the password.
    """
    forget_dids()
    forget_counts()
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if must_exist and not path.is_file():
            raise ConfigError([f"DATABASE_URL: there is no database yet at {path}"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError([f"DATABASE_URL: the folder cannot be made: {error}"]) from error
        pragmas = _READ_PRAGMAS | ({"query_only": 1} if read_only else _WRITE_PRAGMAS)
        turn_s, busy_s = (TURN_SECONDS, TURN_SECONDS) if for_requests else (-1, BUSY_SECONDS)
        database.initialize(SqliteWithReaders(str(path), pragmas, turn_s, timeout=busy_s))
        return
    _check(url)
    statement_ms = PAGE_STATEMENT_MS if for_requests else STATEMENT_MS
    options = (
        f"-c statement_timeout={statement_ms} -c TimeZone=UTC"
        f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_MS}"
        f" {PLANNING}"
    )
    if read_only:
        options += " -c default_transaction_read_only=on"
    database.initialize(
        ConnectionPool(
            url,
            max_connections=max_connections,
            stale_timeout=300,
            timeout=10,
            options=options,
            connection_factory=Connection if leave is None else OneHistory(leave).connect,
        )
    )


@contextmanager
def patiently(statement_ms: int = STATEMENT_MS) -> Iterator[None]:
    """Within it, this thread's statements may take so long, also in a web process; 0: any time."""
    if is_sqlite():
        yield
        return
    execute(f"SET statement_timeout = {int(statement_ms)}")
    try:
        yield
    finally:
        execute("RESET statement_timeout")


def _check(url: str) -> None:
    try:
        parse_dsn(url)
    except (psycopg2.ProgrammingError, UnicodeError):
        problem = "the driver cannot read it (is each OPTION one of libpq's, and each %XX UTF-8?)"
        raise ConfigError([f"DATABASE_URL: {problem}"]) from None


@contextmanager
def patient_transaction() -> Iterator[None]:
    """A write_transaction() of one who leads, whose statements may take any time.

    For a hole of everybody, for a page that takes half a million items away, and for whoever may
    have to wait for their locks: that one's failure would end the lead, and all would be to be done
    anew. Others' transactions are bounded, and so is the waiting.
    """
    with write_transaction():
        if not is_sqlite():
            # Until the transaction ends, however it does.
            execute("SET LOCAL statement_timeout = 0")
        yield
