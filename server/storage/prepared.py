"""Statements that are run for every page: planned once for each connection, not each time.

PostgreSQL takes longer to plan the timeline than to run it. A statement has `:name` parameters,
which are whole numbers (or lists of them: `each`; or a snapshot, as PostgreSQL writes it), and its
text is made of our own words only: there are a few for each feed.
A connection keeps its statements until it is closed. (A pooler that hands connections on in the
middle of a session would lose them, and the lead's lock as well: docs/operating.md.)
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from psycopg2.extensions import connection

from server.storage.allowance import require_time
from server.storage.database import (
    add_seconds,
    database,
    is_sqlite,
    require_time_to_begin,
    shared_readers,
)
from server.storage.reader import reader

# What PostgreSQL is told of our statements when a connection begins: one plan for all viewers, and
# each runs for about a millisecond, which is shorter than to compile it (jit), and than to start
# two more processes for it (4 ms, where the planner thinks that an average viewer is worth them).
# And no table is read as a whole where an index leads to what is looked for: for three thousand
# repos of a batch the planner would rather read all of 100,000.
PLANNING = (
    "-c plan_cache_mode=force_generic_plan -c jit=off -c max_parallel_workers_per_gather=0"
    " -c enable_seqscan=off"
)

# Of parameters that are no bigint, by their names.
_TYPES = {
    "viewer": "integer",
    "accounts": "integer[]",
    "ids": "bigint[]",
    "floors": "bigint[]",
    "snapshot": "pg_snapshot",
}
# The server would give numbers of accounts anew that a crash took, and we remember whose they were.
# Whoever waits for more than the disk (remote_apply), or less for a standby (local), keeps that.
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
_PARAMETER = re.compile(r"(?<!:):([a-z]+)")


class Connection(connection):
    """A connection to PostgreSQL that knows which statements it has planned.

    And where it leads, once somebody wants to know: see wal.py and one_history.py. What it commits
    is on the server's disk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()
        self.origin: object = None
        # See connection_pool.py.
        self.rests_since_s = float("-inf")
        # Without a transaction, which could take the setting back.
        self.autocommit = True
        with self.cursor() as cursor:
            cursor.execute(_DURABLE)
        # From then on, at the latest, it is open, until it is closed: the server has not crashed.
        self.open_since_s = time.monotonic()


def each(name: str) -> str:
    """Of a list: a table of one column, `number`. The name is one of _TYPES."""
    if is_sqlite():
        return f"(SELECT value AS number FROM json_each(:{name}))"
    return f"(SELECT unnest(:{name}) AS number)"


def each_with_floor() -> str:
    """Of the lists :accounts and :floors, side by side: a table of `number` and `floor`."""
    if is_sqlite():
        pair = "json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS floor"
        return f"(SELECT {pair} FROM json_each(:accounts))"
    return "(SELECT unnest(:accounts) AS number, unnest(:floors) AS floor)"


def with_floors(accounts: Sequence[int], floors: Sequence[int]) -> dict[str, list[Any]]:
    """The values that `each_with_floor` asks for."""
    if is_sqlite():
        return {"accounts": list(zip(accounts, floors, strict=True))}
    return {"accounts": list(accounts), "floors": list(floors)}


def prepared_rows(sql: str, values: Mapping[str, int | str | list[Any]]) -> list[tuple[Any, ...]]:
    """All rows of a statement; `values` may hold more than it asks for."""
    began = time.perf_counter()
    try:
        if is_sqlite():
            return _rows_of_sqlite(sql, values)
        name, prepare, execute, order = _for_postgresql(sql)
        replica, ordered = reader(), [values[one] for one in order]
        if replica is not None:
            if name not in replica.prepared:
                replica.rows(prepare)
                replica.prepared.add(name)
            return replica.rows(execute, ordered)
        planned = database.connection().prepared
        if name not in planned:
            require_time_to_begin()
            database.execute_sql(prepare)
            planned.add(name)
        require_time_to_begin()
        return list(database.execute_sql(execute, ordered).fetchall())
    finally:
        add_seconds(time.perf_counter() - began)


def is_open_since_before(moment_s: float) -> bool:
    """Whether what this thread asks PostgreSQL goes to the primary, by a connection that is so old.

    `moment_s`: of the monotonic clock.
    """
    return reader() is None and bool(database.connection().open_since_s < moment_s)


def prepared_line(sql: str) -> Callable[[Mapping[str, int]], list[tuple[Any, ...]]]:
    """The same for a statement of every request, which one thread at a time asks for.

    In PostgreSQL it has a connection of its own (connection_pool.py).
    """
    if is_sqlite():
        return lambda values: prepared_rows(sql, values)
    _, prepare, execute, order = _for_postgresql(sql)
    line = database.obj.line(prepare, execute)

    def ask(values: Mapping[str, int]) -> list[tuple[Any, ...]]:
        began = time.perf_counter()
        try:
            found: list[tuple[Any, ...]] = line.rows([values[one] for one in order])
            return found
        finally:
            add_seconds(time.perf_counter() - began)

    return ask


def _rows_of_sqlite(sql: str, given: Mapping[str, int | str | list[Any]]) -> list[tuple[Any, ...]]:
    values = {
        name: json.dumps(value) if isinstance(value, list) else value
        for name, value in given.items()
    }
    if database.in_transaction():
        # Only this thread's own connection sees what it has written.
        return list(database.execute_sql(sql, values).fetchall())
    require_time()
    return shared_readers().rows(sql, values)


@cache
def _for_postgresql(sql: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Name, the statement that plans it, the one that runs it, and the order of its values."""
    order = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    numbered = _PARAMETER.sub(lambda match: f"${order.index(match[1]) + 1}", sql)
    # Never another statement under the same name, whoever had the connection before.
    name = f"gapless_{sha256(sql.encode()).hexdigest()[:16]}"
    types = ", ".join(_TYPES.get(one, "bigint") for one in order)
    prepare = f"PREPARE {name} ({types}) AS {numbered}"
    return name, prepare, f"EXECUTE {name} ({', '.join(['%s'] * len(order))})", order
