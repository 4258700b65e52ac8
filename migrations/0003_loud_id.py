"""Who is quiet, in a column: server/storage/newest.py. The next step fills it.

loud_id: of the author's feed_items the one that 30 newer ones follow, exactly; -1 if there is none.
"""

STATEMENTS = ["ALTER TABLE repos ADD COLUMN loud_id BIGINT NOT NULL DEFAULT -1"]


def up(_migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)
