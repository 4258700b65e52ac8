"""Migrations: applied once, by whoever comes first; a newer database is left alone."""

import importlib
import secrets
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.core.errors import ConfigError
from server.core.feed import QUIET_ITEMS
from server.core.projection import KEY_TIE_BITS
from server.storage import migrate as migrations
from server.storage import opening, records
from server.storage.database import (
    DatabaseError,
    close_database,
    current,
    execute,
    rows,
    value,
    write_transaction,
)
from server.storage.many_rows import insert_rows
from server.storage.migrate import DIRECTORY, check_schema, migrate
from server.storage.opening import open_database, patient_transaction
from server.storage.repos import load_repos
from tests.builders import NOW_MS
from tests.conftest import DATABASES

MIGRATE = """
import sys
from server.storage.opening import open_database
from server.storage.many_rows import insert_rows
from server.storage.migrate import migrate
open_database(sys.argv[1])
print(len(migrate()))
"""


@pytest.fixture(params=DATABASES)
def new_url(request, tmp_path):
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'gapless.db'}"
        return
    postgres = request.getfixturevalue("postgres")
    name = f"new_{secrets.token_hex(4)}"
    yield postgres.create(name)
    postgres.drop(name)


@pytest.fixture
def new_database(new_url):
    open_database(new_url)
    yield new_url
    close_database()


def test_every_step_is_applied_once(new_database):
    steps = sorted(path.stem for path in DIRECTORY.glob("[0-9]*.py"))
    assert migrate() == steps
    assert migrate() == []
    assert value("SELECT value FROM counters WHERE name = 'tracked'") == 0


def migrate_to(step, monkeypatch, folder):
    """As a version did that knew no later step."""
    with monkeypatch.context() as patch:
        for path in DIRECTORY.glob("[0-9]*.py"):
            if path.stem <= step:
                (folder / path.name).symlink_to(path)
        patch.setattr(migrations, "DIRECTORY", folder)
        assert migrate()[-1] == step


def test_who_was_loud_before_it_was_written_down_is_known(new_database, monkeypatch, tmp_path):
    migrate_to("0002_touched", monkeypatch, tmp_path)
    keys = "author_id, state, wants, epoch, tracked_version, newest_id"
    written = {1: 0, 2: QUIET_ITEMS, 3: QUIET_ITEMS + 1, 4: 3 * QUIET_ITEMS}
    insert_rows(f"INSERT INTO repos ({keys})", [(n, 3, 1, 1, 1, m - 1) for n, m in written.items()])
    insert_rows(
        "INSERT INTO feed_items (id, author_id, rkey, collection, flags)",
        [(m * 10 + n, n, m, 0, 0) for n, count in written.items() for m in range(count)],
    )
    assert migrate()[:2] == ["0003_loud_id", "0004_fill_loud_id"]
    found = rows("SELECT loud_id FROM repos ORDER BY author_id")
    assert found == [(-1,), (-1,), (3,), ((2 * QUIET_ITEMS - 1) * 10 + 4,)]


def test_items_of_before_are_found_by_their_keys(new_database, monkeypatch, tmp_path):
    """Whatever they are; and who has a crowd is known to have one."""
    migrate_to("0004_fill_loud_id", monkeypatch, tmp_path)
    at = NOW_MS << KEY_TIE_BITS
    near, other_day = NOW_MS * 1000 << 10, (NOW_MS - 86_400_000) * 1000 << 10
    written = [
        (at, 1, near, 0, 5, 2, 7, 3, 9),
        (at + 1, 1, near, 1, 0, 2, 7, None, None),
        (at + 2, 1, other_day, 0, 2, None, None, None, None),
        (at + 3, 1, -1, 1, 0, 2, 7, None, None),
        *((at + 9 + n, 4, near + n, n % 2, n % 2 * 2, None, None, None, None) for n in range(400)),
    ]
    columns = "id, author_id, rkey, collection, flags, subject_id, subject_rkey, root_id, root_rkey"
    insert_rows(f"INSERT INTO feed_items ({columns})", written)
    assert migrate()[0] == "0005_fewer_bytes"
    assert rows("SELECT author_id FROM crowded_authors") == [(4,)]
    found = records.find([(row[1], row[2], row[3]) for row in written])
    for id_, author, rkey, collection, content, *refs in written:
        flags = records.row_flags(content, repost=collection == 1, crowded=author == 4)
        assert tuple(found[author, rkey, collection]) == (id_, author, rkey, flags, *refs)
    assert len(found) == value("SELECT count(*) FROM feed_items") == len(written)


def test_items_can_be_read_until_the_table_is_changed_for_the_new_one(postgres, together):
    """And nobody can write what would be left behind."""
    name = f"read_{secrets.token_hex(4)}"
    open_database(postgres.create(name))
    copied, is_read = threading.Event(), threading.Event()

    quick = ("DROP TABLE feed_items", "ALTER TABLE", "ALTER INDEX")

    class Db:
        def execute_sql(self, statement):
            if statement.startswith("DROP"):
                copied.set()
                assert is_read.wait(10)
            # Whoever reads now waits for the rest.
            assert not copied.is_set() or statement.startswith(quick)
            current().execute_sql(statement)

    def step():
        with write_transaction():
            importlib.import_module("migrations.0005_fewer_bytes").up(None, Db())

    def read():
        assert copied.wait(10)
        assert value("SELECT count(*) FROM feed_items") == 1
        execute("SET lock_timeout = '50ms'")
        with pytest.raises(DatabaseError, match="lock timeout"):
            execute("DELETE FROM feed_items")
        is_read.set()

    try:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            migrate_to("0004_fill_loud_id", patch, Path(folder))
        insert_rows("INSERT INTO feed_items (id, author_id, rkey, collection, flags)", [(1,) * 5])
        together(step, read)
        assert value("SELECT count(*) FROM feed_items") == 1
    finally:
        close_database()
        postgres.drop(name)


def test_a_writer_who_has_read_before_the_step_and_writes_after_is_no_deadlock(postgres, together):
    name = f"write_{secrets.token_hex(4)}"
    open_database(postgres.create(name))
    is_read, is_stopped = threading.Event(), threading.Event()

    class Db:
        def execute_sql(self, statement):
            current().execute_sql(statement)
            if statement.startswith("LOCK TABLE feed_items"):
                is_stopped.set()

    def step():
        assert is_read.wait(10)
        with write_transaction():
            importlib.import_module("migrations.0005_fewer_bytes").up(None, Db())

    def write():
        with patient_transaction():
            assert load_repos([1])
            assert value("SELECT count(*) FROM feed_items") == 1
            is_read.set()
            # As long as it goes on, the step must not have begun.
            assert not is_stopped.wait(0.5)
            execute("UPDATE repos SET rev = 1")
            execute("DELETE FROM feed_items")

    try:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            migrate_to("0004_fill_loud_id", patch, Path(folder))
        insert_rows("INSERT INTO feed_items (id, author_id, rkey, collection, flags)", [(1,) * 5])
        columns = "author_id, state, wants, epoch, tracked_version"
        insert_rows(f"INSERT INTO repos ({columns})", [(1, 3, 1, 1, 1)])
        together(step, write)
        assert value("SELECT count(*) FROM feed_items") == 0
        assert value("SELECT rev FROM repos") == 1
    finally:
        close_database()
        postgres.drop(name)


def test_pages_can_be_read_and_nobody_blocked_for_good_while_a_column_is_filled(db, together):
    """A process of the version before reads and writes beside the step that goes through all."""
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version)",
        [(n, 3, 1, 1, 1) for n in range(1, 50)],
    )
    fill = importlib.import_module("migrations.0004_fill_loud_id")
    is_filled, is_read = threading.Event(), threading.Event()

    def step():
        with write_transaction():
            fill.up(None, current())
            is_filled.set()
            assert is_read.wait(10)

    def read():
        assert is_filled.wait(10)
        assert value("SELECT count(*) FROM repos WHERE loud_id = -1") == 49
        is_read.set()

    def write():
        with write_transaction():
            load_repos(range(49, 0, -1))

    together(step, read, write)


def test_a_step_may_take_longer_than_a_statement_of_the_service(postgres, monkeypatch, tmp_path):
    monkeypatch.setattr(opening, "STATEMENT_MS", 100)
    monkeypatch.setattr(migrations, "DIRECTORY", tmp_path)
    (tmp_path / "0001_slow.py").write_text(
        "def up(migrator, db):\n    db.execute_sql('SELECT pg_sleep(0.3)')\n"
    )
    name = f"slow_{secrets.token_hex(4)}"
    open_database(postgres.create(name))
    try:
        assert migrate() == ["0001_slow"]
        with pytest.raises(DatabaseError, match="statement timeout"):
            value("SELECT pg_sleep(0.3)")
    finally:
        close_database()
        postgres.drop(name)


def test_processes_that_start_together_migrate_once(new_url):
    def run(_):
        command = [sys.executable, "-c", MIGRATE, new_url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    with ThreadPoolExecutor(4) as pool:
        counts = [int(done.stdout) for done in pool.map(run, range(4))]
    assert sorted(counts) == [0, 0, 0, len(list(DIRECTORY.glob("[0-9]*.py")))]


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(new_database):
    migrate()
    history = next(name for name in _tables() if "migration" in name)
    columns = rows(f"SELECT * FROM {history}")  # noqa: S608
    execute(f"UPDATE {history} SET name = '9999_later' WHERE name = '0001_initial'")  # noqa: S608
    with pytest.raises(ConfigError, match=r"newer Gapless.*9999_later"):
        migrate()
    assert len(rows(f"SELECT * FROM {history}")) == len(columns)  # noqa: S608


def test_a_look_at_the_schema_says_what_is_wrong_and_changes_nothing(new_database):
    with pytest.raises(ConfigError, match=r"older than this Gapless.*0001_initial.*migrate"):
        check_schema()
    assert _tables() == []
    migrate()
    check_schema()
    history = next(name for name in _tables() if "migration" in name)
    execute(f"UPDATE {history} SET name = '9999_later' WHERE name = '0001_initial'")  # noqa: S608
    with pytest.raises(ConfigError, match="newer Gapless"):
        check_schema()


def test_a_database_opened_to_be_read_refuses_writes(new_database):
    migrate()
    close_database()
    open_database(new_database, must_exist=True, read_only=True)
    check_schema()
    with pytest.raises(DatabaseError):
        execute("UPDATE counters SET value = 1")
    assert value("SELECT value FROM counters WHERE name = 'tracked'") == 0


@pytest.mark.parametrize("rest", ["u@h/db?passwort=secret", "u:secret%e0@h/db"])
def test_what_the_driver_cannot_read_is_said_in_words_of_ours(rest):
    with pytest.raises(ConfigError, match="the driver cannot read it") as refused:
        open_database(f"postgresql://{rest}")
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_database_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(ConfigError, match="there is no database yet"):
        open_database(f"sqlite:///{tmp_path / 'new' / 'gapless.db'}", must_exist=True)
    assert list(tmp_path.iterdir()) == []


def _tables():
    return current().get_tables()
