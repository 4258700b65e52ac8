"""What is known of a table that a step has written anew."""

import secrets

from server.storage import records
from server.storage.database import close_database, value
from server.storage.many_rows import insert_rows
from server.storage.migrate import migrate
from server.storage.opening import open_database
from tests.storage.test_migrate import migrate_to


def test_nobody_plans_in_the_dark_until_autovacuum_comes_by(postgres, monkeypatch, tmp_path):
    name = f"known_{secrets.token_hex(4)}"
    open_database(postgres.create(name))
    try:
        migrate_to("0004_fill_loud_id", monkeypatch, tmp_path)
        columns = "id, author_id, rkey, collection, flags"
        insert_rows(f"INSERT INTO feed_items ({columns})", [(n, 1, -n, 0, 0) for n in range(1, 9)])
        migrate()
        known = "SELECT count(*) FROM pg_stats WHERE tablename = ?"
        assert value(known, ("feed_items",)) == len(records.COLUMNS)
        # And what an index computes.
        assert value(known, ("feed_items_apart",)) > 0
    finally:
        close_database()
        postgres.drop(name)
