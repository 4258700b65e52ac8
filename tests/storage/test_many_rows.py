"""Statements for many rows: more than one statement's parameters, in both databases alike."""

import itertools

import pytest

from server.storage.arrays import as_array
from server.storage.database import DatabaseError, rows, value, write_transaction
from server.storage.many_rows import (
    CHUNK,
    delete_rows,
    insert_rows,
    rows_between,
    rows_by_key,
    rows_in,
    update_rows,
)

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.by_hand]

INTO = "INSERT INTO odd_rkeys (id, rkey)"
# In more than one statement of PostgreSQL's.
MANY = CHUNK + 7


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
    assert delete_rows("odd_rkeys", ("id",), [*gone, (10,), (MANY,)]) == 10
    assert value("SELECT count(*) FROM odd_rkeys") == MANY - 10


def test_a_row_is_changed_where_its_whole_key_is_right() -> None:
    insert_rows("INSERT INTO follows (viewer_id, rkey, subject_id)", [(1, 5, 7), (2, 5, 7)])
    update_rows("follows", ("subject_id",), ("viewer_id", "rkey"), [(1, 5, 9), (2, 6, 9)])
    found = rows("SELECT viewer_id, rkey, subject_id FROM follows ORDER BY viewer_id")
    assert found == [(1, 5, 9), (2, 5, 7)]


def test_rows_are_found_by_ranges_of_the_last_column_of_a_key():
    record = ("viewer_id", "rkey")
    listed = [(1, 5, 7), (1, 6, 7), (1, 7, 7), (2, 6, 7), (3, 6, 7)]
    insert_rows("INSERT INTO follows (viewer_id, rkey, subject_id)", listed)
    ranges = [(1, 6, 9), (1, -4, -1), (2, 6, 6), (3, 7, 9)]
    found = rows_between("t.viewer_id, t.rkey", "follows", record, ranges)
    assert sorted(found) == [(1, 6), (1, 7), (2, 6)]
    assert rows_between("t.viewer_id", "follows", record, []) == []
    many = [(viewer, 6, 6) for viewer in range(MANY)]
    assert len(rows_between("t.rkey", "follows", record, many)) == 3


def test_what_is_there_already_is_left_or_changed_as_the_end_says() -> None:
    insert_rows(INTO, [(1, "one"), (2, "two")])
    insert_rows(INTO, [(1, "first"), (3, "three")], "ON CONFLICT (id) DO NOTHING")
    insert_rows(INTO, [(2, "second")], "ON CONFLICT (id) DO UPDATE SET rkey = excluded.rkey")
    assert rows("SELECT rkey FROM odd_rkeys ORDER BY id") == [("one",), ("second",), ("three",)]


# What means something in an array of PostgreSQL's, and in SQL.
SPECIAL = [
    "",
    " ",
    "NULL",
    "null",
    ",",
    "{}",
    '"',
    "\\",
    '\\"',
    "'",
    "%s",
    "?",
    "\n",
    "é",
    "\U0001f600",
]


def test_any_text_comes_back_as_it_was_and_is_found() -> None:
    texts = [
        *SPECIAL,
        *map("".join, itertools.permutations(SPECIAL, 2)),
        *map("a{}b".format, SPECIAL),
    ]
    texts = list(dict.fromkeys(texts))
    insert_rows(INTO, list(enumerate(texts)))
    stored = dict(rows("SELECT id, rkey FROM odd_rkeys"))
    assert stored == dict(enumerate(texts))
    assert len(rows_in("SELECT id FROM odd_rkeys WHERE rkey", texts[::2])) == len(texts[::2])
    assert rows_by_key("t.id", "odd_rkeys", ("rkey", "id"), [("{}", texts.index("{}"))])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 63, 64, 65, 130])
def test_however_many_are_asked_for_each_is_found_once(count: int) -> None:
    insert_rows(INTO, [(n, str(n)) for n in range(1, 200)])
    wanted = [(n,) for n in range(1, count + 1)]
    assert sorted(rows_by_key("t.id", "odd_rkeys", ("id",), wanted)) == wanted


def test_none_is_no_text_and_no_number() -> None:
    jobs = "INSERT INTO backfill_jobs (author_id, priority, not_before_us, last_error)"
    insert_rows(jobs, [(1, 0, 0, "NULL"), (2, 0, 0, None), (3, 0, 0, "x")])
    update_rows("backfill_jobs", ("progress",), ("author_id",), [(1, "NULL"), (3, None)])
    # A column of which nothing tells whether it is numbers or texts.
    update_rows("backfill_jobs", ("last_error",), ("author_id",), [(3, None)])
    found = rows("SELECT author_id, progress, last_error FROM backfill_jobs ORDER BY author_id")
    assert found == [(1, "NULL", "NULL"), (2, None, None), (3, None, None)]


def test_what_is_neither_number_nor_text_is_no_array() -> None:
    for value_of_another_kind in (1.5, True, b"x"):
        with pytest.raises(TypeError, match="no array of"):
            as_array([1, value_of_another_kind])
    with pytest.raises(TypeError, match=r"int.*str"):
        as_array([1, "1"])


def test_nothing_is_done_for_nothing() -> None:
    insert_rows(INTO, [])
    update_rows("odd_rkeys", ("rkey",), ("id",), [])
    assert delete_rows("odd_rkeys", ("id",), []) == 0


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
