"""What it takes to bring a large database of SQLite up to date: room on the disk, and no memory."""

from server.storage import migrate as migrations
from server.storage.database import close_database, current, value
from server.storage.migrate import migrate
from server.storage.opening import open_database

# What SQLite calls the two.
FILE, MEMORY = 1, 2


def test_what_sqlite_sets_aside_for_a_step_is_not_in_memory(tmp_path, monkeypatch):
    """That is 120 bytes for each item where a table is written anew."""
    (tmp_path / "0001_look.py").write_text(
        "def up(migrator, db):\n"
        "    (place,) = db.execute_sql('PRAGMA temp_store').fetchone()\n"
        "    db.execute_sql(f'CREATE TABLE place_{place} (id INTEGER)')\n"
    )
    monkeypatch.setattr(migrations, "DIRECTORY", tmp_path)
    open_database(f"sqlite:///{tmp_path / 'gapless.db'}")
    try:
        assert migrate() == ["0001_look"]
        assert f"place_{FILE}" in current().get_tables()
        # Nothing else is slowed down by it.
        assert value("PRAGMA temp_store") == MEMORY
    finally:
        close_database()
