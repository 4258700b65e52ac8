"""What 0003 added, filled: a step of its own, because no page can be read while a table is altered.

In PostgreSQL a process of the version before may still write: the rows are locked as it locks them,
in the order of server/storage/conflicts.py.
"""

from peewee import SqliteDatabase

LOCK = "SELECT count(*) FROM (SELECT 1 FROM repos ORDER BY author_id FOR UPDATE) locked"
FILL = (
    "UPDATE repos SET loud_id = coalesce((SELECT i.id FROM feed_items i"
    " WHERE i.author_id = repos.author_id ORDER BY i.id DESC LIMIT 1 OFFSET 30), -1)"
    " WHERE newest_id >= 0"
)


def up(_migrator, db):
    for statement in [FILL] if isinstance(db, SqliteDatabase) else [LOCK, FILL]:
        db.execute_sql(statement)
