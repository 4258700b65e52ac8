"""What web processes hear of what was changed: all of it, whoever commits when."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import psycopg2
import pytest

from server.storage import touched
from server.storage.database import DatabaseError, database, execute, sqlite_path, write_transaction
from server.storage.touched import Listener, touch, touch_everybody
from server.storage.wal_index import wal_index
from tests.system.waiting import wait_until

EVERYBODY = "everybody"
# Accounts as a transaction of another connection writes them.
SEVEN, EIGHT = (number.to_bytes(4, sys.byteorder) for number in (7, 8))


class Ears:
    """Hears, and says what it heard since it was last asked."""

    def __init__(self):
        self.heard = []
        self.listener = Listener(self.hear)

    def hear(self, accounts):
        self.heard.append(EVERYBODY if accounts is None else sorted(accounts))

    def look(self):
        self.heard.clear()
        self.listener.look()
        return list(self.heard)


@pytest.fixture
def ears(db):
    found = Ears()
    # It knows nothing yet.
    assert found.look() == [EVERYBODY]
    assert found.look() == []
    return found


class CountedLock:
    """A lock that counts who asked for it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0
        self.release = self.lock.release

    def acquire(self, timeout):
        self.asked += 1
        return self.lock.acquire(timeout=timeout)


def touch_in_a_transaction(*accounts):
    with write_transaction():
        touch(accounts)


def touch_and_fail(account):
    with write_transaction():
        touch([account])
        execute("INSERT INTO nowhere VALUES (1)")


def test_what_was_committed_is_heard_once(ears):
    touch_in_a_transaction(3, 1)
    assert ears.look() == [[1, 3]]
    assert ears.look() == []
    touch_in_a_transaction(2)
    touch_in_a_transaction(3)
    assert ears.look() == [[2, 3]]


def test_one_transaction_writes_one_row_and_whatever_else_it_does_is_in_it(ears):
    with write_transaction():
        touch([1])
        with write_transaction():
            touch(iter([2, 1]))
        assert ears.look() == []
        touch([])
    assert ears.look() == [[1, 2]]


def test_what_is_rolled_back_is_not_heard_of_nor_noted_by_the_next(ears):
    with pytest.raises(DatabaseError):
        touch_and_fail(1)
    touch_in_a_transaction(2)
    assert ears.look() == [[2]]


def test_nobody_notes_outside_of_a_transaction(ears):
    for note in (lambda: touch([1]), touch_everybody):
        with pytest.raises(RuntimeError, match="write_transaction"):
            note()


def test_what_touches_everybody_is_heard_as_that(ears):
    with write_transaction():
        touch([1])
        touch_everybody()
    assert ears.look() == [EVERYBODY]
    assert ears.look() == []


def test_too_many_accounts_and_too_many_rows_are_everybody(ears, monkeypatch):
    monkeypatch.setattr(touched, "MOST_ACCOUNTS", 2)
    monkeypatch.setattr(touched, "MOST_ROWS", 3)
    touch_in_a_transaction(1, 2)
    assert ears.look() == [[1, 2]]
    touch_in_a_transaction(1, 2, 3)
    assert ears.look() == [EVERYBODY]
    for _ in range(4):
        touch_in_a_transaction(1)
    assert ears.look() == [EVERYBODY]
    # Nor does a statement look through so many.
    assert ears.listener.heard is None
    touch_in_a_transaction(5)
    assert [5] in ears.look()


def test_who_did_not_look_before_it_was_dropped_hears_everybody(ears):
    late = Ears()
    late.look()
    touch_in_a_transaction(1)
    assert ears.look() == [[1]]
    place = touched.place_of_now()
    touch_in_a_transaction(2)
    assert ears.look() == [[2]]
    touched.forget(place)
    assert ears.look() == []
    assert late.look() == [EVERYBODY]
    touch_in_a_transaction(3)
    assert (ears.look(), late.look()) == ([[3]], [[3]])


def test_dropping_all_does_not_begin_the_numbers_anew(ears):
    touch_in_a_transaction(1)
    assert ears.look() == [[1]]
    for _ in range(3):
        touched.forget(touched.place_of_now())
    touch_in_a_transaction(2)
    # In PostgreSQL, dropping takes numbers as well.
    assert ears.look() in ([[2]], [EVERYBODY])


def test_a_transaction_that_ends_late_is_heard_when_it_ends(postgresql):
    ears = Ears()
    ears.look()
    insert = "INSERT INTO touched (accounts) VALUES (%s)"
    with closing(psycopg2.connect(postgresql)) as slow, closing(slow.cursor()) as cursor:
        cursor.execute(insert, (SEVEN,))
        touch_in_a_transaction(1)
        assert ears.look() == [[1]]
        touch_in_a_transaction(2)
        # One that is told again in the meantime is not heard again.
        assert ears.look() == [[2]]
        assert ears.look() == []
        touched.forget(touched.place_of_now())
        cursor.execute(insert, (EIGHT,))
        slow.commit()
    assert ears.look() == [[7, 8]]
    assert ears.look() == []


def test_one_look_serves_all_who_came_before_it(ears, monkeypatch):
    monkeypatch.setattr(ears.listener, "_state_now", lambda: None)
    looks, entered, go_on = [], threading.Event(), threading.Event()
    ears.listener._turn = turn = CountedLock()
    ask = ears.listener._ask

    def slow_ask(values):
        looks.append(values)
        entered.set()
        assert go_on.wait(10)
        return ask(values)

    monkeypatch.setattr(ears.listener, "_ask", slow_ask)
    threads = [threading.Thread(target=ears.listener.look) for _ in range(6)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: turn.asked == len(threads), 10, lambda: f"all wait: {turn.asked}")
    go_on.set()
    for thread in threads:
        thread.join()
    # The first one's had begun before the others came; one more is enough for all of them.
    assert len(looks) == 2


def test_who_waits_too_long_for_a_turn_is_told(ears, monkeypatch):
    monkeypatch.setattr(ears.listener, "_state_now", lambda: None)
    monkeypatch.setattr(touched, "TURN_SECONDS", 0.01)
    with ears.listener._turn, pytest.raises(touched.OperationalError, match="takes over"):
        ears.listener.look()


def test_after_a_look_that_failed_everything_may_be_different(ears, monkeypatch):
    touch_in_a_transaction(1)

    def fail(_values):
        raise DatabaseError("it is gone")

    monkeypatch.setattr(ears.listener, "_ask", fail)
    with pytest.raises(DatabaseError, match="gone"):
        ears.look()
    monkeypatch.undo()
    assert ears.look() == [EVERYBODY]
    touch_in_a_transaction(2)
    assert ears.look() == [[2]]


def test_after_a_restart_of_the_server_everything_may_be_different(postgresql):
    ears = Ears()
    ears.look()
    touch_in_a_transaction(1)
    assert ears.look() == [[1]]
    with closing(psycopg2.connect(postgresql)) as admin, closing(admin.cursor()) as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND query LIKE 'EXECUTE%'"
        )
        assert cursor.fetchall() == [(True,)]
    # Nobody gets an error for that.
    assert ears.look() == [EVERYBODY]
    touch_in_a_transaction(2)
    assert ears.look() == [[2]]


def test_while_nothing_is_committed_nobody_looks(sqlite, monkeypatch):
    ears = Ears()
    ears.look()
    monkeypatch.setattr(ears.listener, "_ask", None)
    monkeypatch.setattr(touched, "prepared_line", None)
    assert ears.look() == []
    monkeypatch.undo()
    # Another process, which commits and has gone before anybody looks.
    program = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
        " note = 'INSERT INTO touched (accounts) VALUES (?)';"
        " connection.execute(note, (bytes.fromhex(sys.argv[2]),)); connection.commit()"
    )
    subprocess.run([sys.executable, "-c", program, sqlite_path(), SEVEN.hex()], check=True)
    assert ears.look() == [[7]]


def test_each_commit_shows_in_the_state_and_nothing_else_does(sqlite):
    index = wal_index(sqlite_path())
    states = {index.state()}
    for number in range(200):
        execute("UPDATE touched_gone SET place = ?", (number,))
        states.add(index.state())
        if number % 50 == 0:
            database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            states.add(index.state())
    assert len(states) >= 201
    before = index.state()
    with closing(sqlite3.connect(sqlite_path())) as connection:
        assert connection.execute("SELECT place FROM touched_gone").fetchone() == (199,)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE touched_gone SET place = 0")
        assert index.state() == before
        connection.rollback()
    assert index.state() == before


def test_without_such_an_index_a_statement_is_asked(sqlite):
    database.execute_sql("PRAGMA journal_mode = delete")
    ears = Ears()
    ears.look()
    touch_in_a_transaction(1)
    assert ears.look() == [[1]]
