"""Statements for many rows: more than one statement's parameters, in both databases alike."""

import pytest

from server.storage.database import (
    MAX_PARAMETERS,
    DatabaseError,
    execute_each,
    insert_rows,
    rows,
    update_rows,
    value,
    write_transaction,
)

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.by_hand]

INTO = "INSERT INTO odd_rkeys (id, rkey)"
# In more than one statement of PostgreSQL's.
MANY = MAX_PARAMETERS // 2 + 7


def test_many_rows_are_inserted_changed_and_deleted() -> None:
    insert_rows(INTO, [(n, str(n)) for n in range(MANY)])
    update_rows("odd_rkeys", ("rkey",), ("id",), [(n, f"new {n}") for n in range(0, MANY, 2)])
    assert rows("SELECT rkey FROM odd_rkeys WHERE id < 4 ORDER BY id") == [
        ("new 0",),
        ("1",),
        ("new 2",),
        ("3",),
    ]
    gone = [(n,) for n in range(10, 20)]
    assert execute_each("DELETE FROM odd_rkeys WHERE id = ?", [*gone, (10,), (MANY,)]) == 10
    assert value("SELECT count(*) FROM odd_rkeys") == MANY - 10


def test_a_row_is_changed_where_its_whole_key_is_right() -> None:
    insert_rows("INSERT INTO follows (viewer_id, rkey, subject_id)", [(1, 5, 7), (2, 5, 7)])
    update_rows("follows", ("subject_id",), ("viewer_id", "rkey"), [(1, 5, 9), (2, 6, 9)])
    found = rows("SELECT viewer_id, rkey, subject_id FROM follows ORDER BY viewer_id")
    assert found == [(1, 5, 9), (2, 5, 7)]


def test_what_is_there_already_is_left_or_changed_as_the_end_says() -> None:
    insert_rows(INTO, [(1, "one"), (2, "two")])
    insert_rows(INTO, [(1, "first"), (3, "three")], "ON CONFLICT (id) DO NOTHING")
    insert_rows(INTO, [(2, "second")], "ON CONFLICT (id) DO UPDATE SET rkey = excluded.rkey")
    assert rows("SELECT rkey FROM odd_rkeys ORDER BY id") == [("one",), ("second",), ("three",)]


def test_nothing_is_done_for_nothing() -> None:
    insert_rows(INTO, [])
    update_rows("odd_rkeys", ("rkey",), ("id",), [])
    assert execute_each("DELETE FROM odd_rkeys WHERE id = ?", []) == 0


def test_what_a_database_refuses_is_its_error_and_leaves_nothing_of_the_rest() -> None:
    with pytest.raises(DatabaseError):
        insert_rows(INTO, [(1, "one"), (2, "two"), (1, "again")])
    assert value("SELECT count(*) FROM odd_rkeys") == 0
    with pytest.raises(DatabaseError):
        _insert_twice()
    assert value("SELECT count(*) FROM odd_rkeys") == 0


def _insert_twice() -> None:
    with write_transaction():
        insert_rows(INTO, [(1, "one")])
        insert_rows(INTO, [(1, "again")])
