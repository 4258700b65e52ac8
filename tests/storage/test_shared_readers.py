"""The connections to SQLite that threads share: fresh, bounded, and left behind when they fail."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage import shared_readers
from server.storage.database import DatabaseError
from server.storage.shared_readers import AT_ONCE, SharedReaders

# Never comes to its end by itself.
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = str(tmp_path / "some.db")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE numbers (number INTEGER)")
    connection.close()
    return file


@pytest.fixture
def readers(path: str) -> Iterator[SharedReaders]:
    found = SharedReaders(path, {"cache_size": -1000})
    yield found
    found.close()


def _open_connections(path: str) -> int:
    """How many descriptors of this process lead to the file."""
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(1 for link in links if str(link.resolve()) == str(Path(path).resolve()))


def test_each_statement_sees_what_was_committed_before(path: str, readers: SharedReaders) -> None:
    with sqlite3.connect(path) as writer:
        for number in range(3):
            writer.execute("INSERT INTO numbers VALUES (?)", (number,))
            writer.commit()
            assert readers.rows("SELECT count(*) FROM numbers", {}) == [(number + 1,)]
    writer.close()


def test_values_are_named(readers: SharedReaders) -> None:
    assert readers.rows("SELECT :a + :b", {"a": 1, "b": 2, "unasked": 3}) == [(3,)]


def test_nothing_is_written(readers: SharedReaders) -> None:
    with pytest.raises(DatabaseError, match="readonly"):
        readers.rows("INSERT INTO numbers VALUES (1)", {})
    assert readers.rows("SELECT count(*) FROM numbers", {}) == [(0,)]


def test_many_threads_share_a_few_connections(path: str, readers: SharedReaders) -> None:
    start, answers = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        answers.extend(readers.rows("SELECT 7", {}) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[(7,)]] * (16 * 50)
    assert 1 <= _open_connections(path) <= AT_ONCE


def test_an_endless_statement_is_ended(
    path: str, readers: SharedReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_readers, "STATEMENT_SECONDS", 0.2)
    with pytest.raises(DatabaseError, match="interrupted"):
        readers.rows(ENDLESS, {})
    assert _open_connections(path) == 0
    # The time belongs to a statement, and not to the connection.
    assert readers.rows("SELECT 1", {}) == [(1,)]


def test_whoever_cannot_have_a_turn_is_told(
    path: str, readers: SharedReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_readers, "STATEMENT_SECONDS", 1.0)
    monkeypatch.setattr(shared_readers, "TURN_SECONDS", 0.1)

    def hold() -> None:
        with pytest.raises(DatabaseError, match="interrupted"):
            readers.rows(ENDLESS, {})

    holders = [threading.Thread(target=hold) for _ in range(AT_ONCE)]
    for holder in holders:
        holder.start()
    # Whoever opens a connection has a turn.
    while _open_connections(path) < AT_ONCE:
        time.sleep(0.001)
    with pytest.raises(DatabaseError, match="statements have run"):
        readers.rows("SELECT 1", {})
    for holder in holders:
        holder.join()
    assert readers.rows("SELECT 1", {}) == [(1,)]


def test_a_broken_file_is_an_error_of_the_database(tmp_path: Path) -> None:
    file = tmp_path / "broken.db"
    file.write_bytes(b"this is no database" * 500)
    readers = SharedReaders(str(file), {})
    for _ in range(AT_ONCE + 1):
        with pytest.raises(DatabaseError):
            readers.rows("SELECT count(*) FROM numbers", {})
    assert _open_connections(str(file)) == 0
