"""Items in fewer bytes, and most records without an index of keys: server/storage/records.py.

A repost is a row whose flags are NULL now, or have bit 16; so there are eight columns, and the
marks for those that are NULL fit into PostgreSQL's row header. feed_items_apart has what is not
found by the time of its key. crowded_authors: whose items are all in there, and have bit 8.

The table is written anew, with room for it twice. In PostgreSQL pages are read meanwhile, and a
process of the version before can write nothing; when the step is done it fails until it ends, with
its cursor where it was.
"""

from peewee import SqliteDatabase

COPY = [
    "CREATE TABLE crowded_authors (author_id INTEGER NOT NULL PRIMARY KEY)",
    # More than so many in a minute, and there might be a crowd.
    """INSERT INTO crowded_authors (author_id)
        SELECT DISTINCT author_id FROM (SELECT author_id FROM feed_items
            GROUP BY author_id, (id >> 21) / 60000 HAVING count(*) > 100) crowds""",
    """CREATE TABLE feed_items_new (
        id {bigint_key} NOT NULL PRIMARY KEY,
        rkey BIGINT NOT NULL,
        subject_rkey BIGINT,
        root_rkey BIGINT,
        author_id INTEGER NOT NULL,
        subject_id INTEGER,
        root_id INTEGER,
        flags SMALLINT)""",
    """INSERT INTO feed_items_new
            (id, rkey, subject_rkey, root_rkey, author_id, subject_id, root_id, flags)
        SELECT i.id, i.rkey, i.subject_rkey, i.root_rkey, i.author_id, i.subject_id, i.root_id,
            CASE WHEN c.author_id IS NULL THEN CASE WHEN i.collection = 0 THEN i.flags END
                ELSE (CASE WHEN i.collection = 0 THEN i.flags ELSE 16 END) | 8 END
        FROM feed_items i LEFT JOIN crowded_authors c ON c.author_id = i.author_id ORDER BY i.id""",
]
INDEXES = [
    "CREATE INDEX {table}_author ON {table} ({author_order})",
    "CREATE INDEX {table}_media ON {table} ({author_order}) WHERE flags & 2 <> 0",
    """CREATE UNIQUE INDEX {table}_apart ON {table}
            (author_id, (CAST(coalesce(flags, 16) & 16 AS SMALLINT)), rkey)
        WHERE (rkey < 0 OR abs((id >> 21) - (rkey >> 10) / 1000) > 30000
            OR coalesce(flags, 0) & 8 <> 0)""",
]
# Readers go on, until the old table is dropped. Writers are stopped before they have read an item:
# who reads and then waits to write would bar the drop, and wait for it.
LOCKS = ["LOCK TABLE repos IN EXCLUSIVE MODE", "LOCK TABLE feed_items IN SHARE MODE"]
# Of a new table the planner knows nothing, nor of what an index of it computes.
ANALYZE = ["ANALYZE {table}"]
EXCHANGE = ["DROP TABLE feed_items", "ALTER TABLE feed_items_new RENAME TO feed_items"]
# SQLite cannot rename an index.
RENAME = [
    f"ALTER INDEX feed_items_new_{name} RENAME TO feed_items_{name}"
    for name in ("pkey", "author", "media", "apart")
]


def up(_migrator, db):
    if isinstance(db, SqliteDatabase):
        words = {"bigint_key": "INTEGER", "author_order": "author_id", "table": "feed_items"}
        statements = [*COPY, *EXCHANGE, *INDEXES]
    else:
        words = {
            "bigint_key": "BIGINT",
            "author_order": "author_id, id",
            "table": "feed_items_new",
        }
        statements = [*LOCKS, *COPY, *INDEXES, *ANALYZE, *EXCHANGE, *RENAME]
    for statement in statements:
        db.execute_sql(statement.format(**words))
