"""What web processes that keep items in memory have to hear: server/storage/touched.py.

One row for each time that a transaction changed what pages show. `accounts`: whose part of them, as
whole numbers of four bytes; NULL: everybody's. `place`: in SQLite in the order of commits; in
PostgreSQL the number of the transaction. `touched_gone`, one row: what stood below that place was
dropped.
"""

from peewee import SqliteDatabase

FOR_SQLITE = ["CREATE TABLE touched (place INTEGER NOT NULL PRIMARY KEY, accounts BLOB)"]
FOR_POSTGRESQL = [
    """CREATE TABLE touched (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        place BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
        accounts BYTEA)""",
    "CREATE INDEX touched_place ON touched (place)",
]
FOR_BOTH = [
    "CREATE TABLE touched_gone (place BIGINT NOT NULL)",
    "INSERT INTO touched_gone (place) VALUES (0)",
]


def up(_migrator, db):
    statements = FOR_SQLITE if isinstance(db, SqliteDatabase) else FOR_POSTGRESQL
    for statement in [*statements, *FOR_BOTH]:
        db.execute_sql(statement)
