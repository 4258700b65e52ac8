"""Statements for many rows or keys at once, on either database.

SQLite writes by a short statement for each row, prepared once: most of a long one's time is its
text's. PostgreSQL gets all rows or keys in one (arrays.py), as each would be a round trip.

Bounds: CHUNK values, or rows, at a time; JOINED_ROWS where SQLite joins them with a table. None of
these functions needs any to be there: nothing is done for nothing.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from peewee import OperationalError

from server.storage.arrays import as_array, as_table
from server.storage.database import (
    add_seconds,
    database,
    execute,
    is_sqlite,
    rows,
    write_transaction,
)

# Below SQLite's bound on parameters (32,766).
CHUNK = 15_000
# Rows that SQLite joins with a table at a time, in few lengths (1, 4, 16 …), so that texts are the
# same each time: to prepare one takes as long as to run it. And hundreds it takes for more rows
# than the table has: once somebody has said ANALYZE, it reads all of that for a Bloom filter.
JOINED_ROWS = 64


def insert_rows(head: str, values: Sequence[Sequence[object]], tail: str = "") -> None:
    """`head` VALUES (…) `tail`, for each row of values: whole numbers, texts and None."""
    if values and is_sqlite():
        _execute_many(f"{head} VALUES {_marks(len(values[0]))} {tail}", values)
        return
    for chunk in _chunks(values, CHUNK):
        table, arrays = as_table("v", chunk)
        execute(f"{head} SELECT * FROM {table} {tail}", arrays)


def update_rows(
    table: str, columns: Sequence[str], key: Sequence[str], values: Sequence[Sequence[object]]
) -> None:
    """Set `columns` of the rows of `table` with these keys; `values`: the key, then the rest."""
    if values and is_sqlite():
        new = ", ".join(f"{name} = ?" for name in columns)
        turned = [(*row[len(key) :], *row[: len(key)]) for row in values]
        _execute_many(f"UPDATE {table} SET {new} WHERE {_are_given(key)}", turned)
        return
    new = ", ".join(f"{name} = v.column{n}" for n, name in enumerate(columns, len(key) + 1))
    for chunk in _chunks(values, CHUNK):
        listed, arrays = as_table("v", chunk)
        execute(f"UPDATE {table} SET {new} FROM {listed} WHERE {_are_same(key, table)}", arrays)


def delete_rows(table: str, key: Sequence[str], values: Sequence[Sequence[object]]) -> int:
    """Delete the rows of `table` with these keys; how many were there."""
    if values and is_sqlite():
        return _execute_many(f"DELETE FROM {table} WHERE {_are_given(key)}", values)
    deleted = 0
    for chunk in _chunks(values, CHUNK):
        listed, arrays = as_table("v", chunk)
        deleted += execute(
            f"DELETE FROM {table} USING {listed} WHERE {_are_same(key, table)}", arrays
        )
    return deleted


def rows_in(
    head: str, keys: Iterable[object], tail: str = "", before: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Rows of `head` IN (…) `tail`, by keys of one column; `before`: the parameters of `head`."""
    found: list[tuple[Any, ...]] = []
    for chunk in _chunks(list(keys), CHUNK):
        among, parameters = _among(chunk)
        found += rows(f"{head} {among} {tail}", [*before, *parameters])
    return found


def execute_in(head: str, keys: Iterable[object], before: Sequence[object] = ()) -> int:
    """Run `head` IN (…); the number of rows touched."""
    touched = 0
    for chunk in _chunks(list(keys), CHUNK):
        among, parameters = _among(chunk)
        touched += execute(f"{head} {among}", [*before, *parameters])
    return touched


def rows_by_key(
    columns: str, table: str, key: Sequence[str], keys: Iterable[Sequence[object]]
) -> list[tuple[Any, ...]]:
    """`columns` of the rows of `table` (called t) whose `key` columns are among `keys`.

    A join, because SQLite finds no index for `(a, b) IN (VALUES …)` and would read the whole table.
    """
    return rows_joined(columns, table, _are_same(key, "t"), keys)


def rows_between(
    columns: str, table: str, key: Sequence[str], ranges: Iterable[Sequence[object]]
) -> list[tuple[Any, ...]]:
    """The same for ranges of the last column of `key`: the others, its least and its greatest."""
    *same, last = key
    least, greatest = len(key), len(key) + 1
    within = f"t.{last} BETWEEN v.column{least} AND v.column{greatest}"
    condition = " AND ".join([*([_are_same(same, "t")] if same else []), within])
    return rows_joined(columns, table, condition, ranges)


def rows_joined(
    columns: str, table: str, condition: str, listed: Iterable[Sequence[object]]
) -> list[tuple[Any, ...]]:
    """`columns` of the rows of `table` (t) on a condition on `listed` (v: column1, column2, …).

    It has to be a condition that no row meets beside NULLs, as `t.… = v.column1` is.
    """
    many = list(listed)
    width = len(many[0]) if many else 1
    found: list[tuple[Any, ...]] = []
    for chunk in _chunks(many, JOINED_ROWS if is_sqlite() else CHUNK // width):
        values, parameters = _filled_up(chunk) if is_sqlite() else as_table("v", chunk)
        found += rows(
            f"SELECT {columns} FROM {values} CROSS JOIN {table} t WHERE {condition}", parameters
        )
    return found


def _filled_up(chunk: Sequence[Sequence[object]]) -> tuple[str, Sequence[object]]:
    """As `as_table("v", chunk)`, for SQLite: rows of NULLs come last."""
    width, length = len(chunk[0]), 1
    while length < len(chunk):
        length *= 4
    parameters = [part for row in chunk for part in row]
    parameters += [None] * (width * length - len(parameters))
    return f"(VALUES {', '.join([_marks(width)] * length)}) v", parameters


def _among(keys: Sequence[object]) -> tuple[str, Sequence[object]]:
    """The end of a condition on one column, and its parameters."""
    if is_sqlite():
        return f"IN {_marks(len(keys))}", keys
    mark, array = as_array(keys)
    return f"= ANY ({mark})", [array]


def _are_given(key: Sequence[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in key)


def _are_same(key: Sequence[str], table: str) -> str:
    return " AND ".join(f"{table}.{name} = v.column{n}" for n, name in enumerate(key, start=1))


def _execute_many(sql: str, values: Sequence[Sequence[object]]) -> int:
    with write_transaction():
        began = time.perf_counter()
        try:
            return int(database.connection().executemany(sql, values).rowcount)
        except sqlite3.Error as error:
            raise OperationalError(str(error)) from error
        finally:
            add_seconds(time.perf_counter() - began)


def _marks(count: int) -> str:
    return f"({', '.join('?' * count)})"


def _chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
