"""Who is quiet, in a column: server/storage/newest.py.

loud_id: of the author's feed_items the one that 30 newer ones follow, exactly; -1 if there is none.
"""

STATEMENTS = [
    "ALTER TABLE repos ADD COLUMN loud_id BIGINT NOT NULL DEFAULT -1",
    "UPDATE repos SET loud_id = coalesce((SELECT i.id FROM feed_items i"
    " WHERE i.author_id = repos.author_id ORDER BY i.id DESC LIMIT 1 OFFSET 30), -1)"
    " WHERE newest_id >= 0",
]


def up(_migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)
