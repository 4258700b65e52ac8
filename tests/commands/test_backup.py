"""`backup` and `restore` as an operator types them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.storage import viewers
from server.storage.database import close_database
from tests.builders import NOW_US, did


@pytest.fixture
def world(sqlite):
    viewers.welcome(did("viv"), NOW_US)
    close_database()
    return sqlite


def count(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


def test_a_backup_is_made_and_put_back_only_when_told_twice(world, gapless, tmp_path):
    folder, path = tmp_path / "copies", Path(world.removeprefix("sqlite:///"))
    done = gapless(world, "backup", "--json", BACKUP_DIR=str(folder))
    assert done.status == 0, done.err
    made = done.json()["path"]
    assert (Path(made).parent, done.json()["rows"]["viewers"]) == (folder, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM viewers")
    refused = gapless(world, "restore", made)
    assert refused.status == 1
    assert "--replace" in refused.err
    assert gapless(world, "restore", made, "--json").out == ""
    assert count(path, "viewers") == 0
    restored = gapless(world, "restore", made, "--replace")
    assert restored.status == 0, restored.err
    assert count(path, "viewers") == 1
    aside = list(path.parent.glob("*.replaced-*"))
    assert [count(one, "viewers") for one in aside] == [0]
    assert aside[0].name in restored.out


def test_what_cannot_be_done_is_said_with_what_to_do(world, gapless, tmp_path):
    nowhere = gapless(world, "backup")
    assert (nowhere.status, "BACKUP_DIR" in nowhere.err) == (2, True)
    missing = gapless(world, "restore", str(tmp_path / "no.db"))
    assert (missing.status, "there is no file" in missing.err) == (1, True)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    wrong = gapless(world, "restore", str(other))
    assert (wrong.status, "no database of Gapless" in wrong.err) == (1, True)


def test_a_backup_of_a_newer_version_is_not_put_back(world, gapless, tmp_path):
    made = gapless(world, "backup", "--json", "--to", str(tmp_path / "b")).json()["path"]
    with closing(sqlite3.connect(made)) as connection, connection:
        connection.execute(
            "INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2026-11-21')"
        )
    done = gapless(world, "restore", made, "--replace")
    assert (done.status, "9999_future" in done.err) == (2, True)


def test_with_postgresql_backup_says_what_to_use(postgresql, gapless, tmp_path):
    done = gapless(postgresql, "backup", "--to", str(tmp_path))
    assert (done.status, "pg_dump" in done.err) == (1, True)
    done = gapless(postgresql, "status", BACKUP_DIR=str(tmp_path))
    assert (done.status, "BACKUP_DIR" in done.err) == (2, True)
