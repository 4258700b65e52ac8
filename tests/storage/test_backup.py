"""A backup is one moment of the database, whole and sound; putting it back deletes nothing."""

import os
import shutil
import sqlite3
import tempfile
import threading
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from server.core.errors import BackupFailed
from server.storage import backup
from server.storage.database import close_database, execute, release, rows, value
from server.storage.opening import open_database
from tests.builders import NOW_US, Stream, make_live, post, tid, track

SECOND_US = 1_000_000
LATER_US = NOW_US + 1000 * SECOND_US
NOBODY = 65_534
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "backups"


@pytest.fixture
def world(sqlite, lease):
    """An author of three posts."""
    track("alice")
    make_live("alice")
    stream = Stream()
    for number in range(3):
        stream.say("alice", post(tid(number), number))
    return sqlite


def items_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM feed_items").fetchone()[0]


def test_a_backup_is_a_file_alone_that_only_we_can_read(world, folder):
    made = backup.back_up(folder, 7, NOW_US)
    assert [path.name for path in folder.iterdir()] == [made.path.name]
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.rows["feed_items"] == 3 == items_in(made.path)
    assert backup.made_s(made.path) == NOW_US // SECOND_US


def test_a_backup_made_while_others_write_is_one_moment(world, folder, monkeypatch):
    monkeypatch.setattr(backup, "_STEP_PAGES", 1)
    execute("CREATE TABLE one (n INTEGER)")
    execute("CREATE TABLE other (n INTEGER)")
    written = []

    def write(*_):
        # In another thread, and so in another connection: the copy is half done.
        def pair():
            with closing(sqlite3.connect(world.removeprefix("sqlite:///"))) as connection:
                for table in ("one", "other"):
                    connection.execute(f"INSERT INTO {table} VALUES (1)")  # noqa: S608
                connection.commit()

        thread = threading.Thread(target=pair)
        thread.start()
        thread.join()
        written.append(1)

    made = backup.back_up(folder, 7, NOW_US, progress=write)
    assert len(written) > 10
    assert (made.rows["one"], made.rows["other"]) == (0, 0)
    assert value("SELECT count(*) FROM one") == len(written)


def test_only_the_newest_are_kept_and_other_files_are_left_alone(world, folder):
    folder.mkdir()
    strangers = [folder / "gapless-notes.db", folder / "holiday.jpg"]
    for stranger in strangers:
        stranger.write_text("mine")
    (folder / "gapless-20200101T000000Z.part").write_text("of a process that died")
    for number in range(5):
        backup.back_up(folder, 3, NOW_US + number * SECOND_US)
    kept = [backup.made_s(path) - NOW_US // SECOND_US for path in backup.backups(folder, LATER_US)]
    assert kept == [4, 3, 2]
    assert all(stranger.exists() for stranger in strangers)
    assert not list(folder.glob("*.part"))


def test_a_copy_of_a_time_to_come_counts_for_nothing_and_stays(world, folder):
    future = backup.back_up(folder, 1, LATER_US).path
    assert backup.newest_s(folder, NOW_US) == 0
    for number in range(2):
        made = backup.back_up(folder, 1, NOW_US + number * SECOND_US)
        assert backup.backups(folder, NOW_US + number * SECOND_US) == [made.path]
    assert backup.backups(folder, LATER_US) == [future, made.path]


def test_an_old_copy_that_cannot_be_removed_is_told_and_keeps_no_other(world, folder):
    for name in ("gapless-20200101T000000Z.db", "gapless-20200103T000000Z.db"):
        (folder / name).mkdir(parents=True)
    (folder / "gapless-20200102T000000Z.db").touch()
    with pytest.raises(BackupFailed, match="cannot be removed"):
        backup.back_up(folder, 1, NOW_US)
    assert backup.newest_s(folder, NOW_US) == NOW_US // SECOND_US
    assert not (folder / "gapless-20200102T000000Z.db").exists()


@pytest.fixture
def unreadable():
    """A folder that may be written to, and not looked into. Root may everything, so not as root."""
    with tempfile.TemporaryDirectory(prefix="gapless-") as parent:
        Path(parent).chmod(0o711)
        made = Path(parent) / "backups"
        made.mkdir()
        made.chmod(0o333)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield made
        os.seteuid(user)
        made.chmod(0o700)


def test_a_folder_that_cannot_be_looked_into_is_not_taken_for_an_empty_one(unreadable):
    (unreadable / "gapless-20200101T000000Z.db").touch()
    for look in (backup.backups, backup.newest_s):
        with pytest.raises(BackupFailed, match="Permission denied"):
            look(unreadable, NOW_US)


def test_in_a_folder_that_cannot_be_looked_into_no_copy_is_made(world, folder, monkeypatch):
    folder.mkdir()

    def refuse(path):
        raise PermissionError(f"not there: {path}")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BackupFailed, match="not there"):
        backup.back_up(folder, 7, NOW_US)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("name", ["#1", "a?b", "%41", "ä b"])
def test_a_folder_may_have_any_name(world, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / name, Path(f"relative {name}")):
        made = backup.back_up(folder, 7, NOW_US)
        assert backup.verify(made.path) == made


@pytest.mark.parametrize(
    "trouble", ["the disk is full", "the folder is a file", "two at a time", "no lock"]
)
def test_a_backup_that_fails_costs_no_earlier_one(world, folder, monkeypatch, trouble):
    first = backup.back_up(folder, 1, NOW_US).path
    target = folder
    if trouble == "the disk is full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    elif trouble == "the folder is a file":
        target = folder / first.name
    elif trouble == "no lock":
        path = Path(f"{world.removeprefix('sqlite:///')}.backup-lock")
        path.unlink()
        path.mkdir()
    else:
        monkeypatch.setattr(backup.locks, "acquire", lambda _: None)
    with pytest.raises(BackupFailed):
        backup.back_up(target, 1, NOW_US + SECOND_US)
    assert [path.name for path in folder.iterdir()] == [first.name]


def test_a_damaged_copy_is_noticed(world, folder):
    made = backup.back_up(folder, 7, NOW_US).path
    data = bytearray(made.read_bytes())
    # A page of an index or a table somewhere in the middle.
    for position in range(len(data) // 2, len(data) // 2 + 4096):
        data[position] ^= 0xFF
    made.write_bytes(data)
    with pytest.raises(BackupFailed, match=r"damaged|no database"):
        backup.verify(made)
    made.write_text("not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(BackupFailed, match="no database"):
        backup.verify(made)


def test_a_database_in_use_is_not_taken_for_a_backup(world):
    with pytest.raises(BackupFailed, match="in use"):
        backup.verify(Path(world.removeprefix("sqlite:///")))


def test_what_is_replaced_stays_beside_whole(world, folder, lease):
    made = backup.back_up(folder, 7, NOW_US)
    execute("DELETE FROM feed_items")
    execute("INSERT INTO odd_rkeys (rkey) VALUES ('later')")
    lease.release()
    aside = backup.restore(backup.verify(made.path), NOW_US)
    assert len(rows("SELECT id FROM feed_items")) == 3
    assert value("SELECT count(*) FROM odd_rkeys") == 0
    with closing(sqlite3.connect(aside)) as old:
        assert old.execute("SELECT rkey FROM odd_rkeys").fetchall() == [("later",)]
    assert made.path.exists()


def test_nothing_is_put_back_while_somebody_has_the_database_open(world, folder, lease):
    made = backup.back_up(folder, 7, NOW_US)
    path = Path(world.removeprefix("sqlite:///"))
    with pytest.raises(BackupFailed, match="stop the service"):
        backup.restore(made, NOW_US)
    lease.release()
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT count(*) FROM authors").fetchone()
        with pytest.raises(BackupFailed, match="stop the service"):
            backup.restore(made, NOW_US)
    assert not list(path.parent.glob("*.replaced-*"))
    assert not list(path.parent.glob("*.restoring"))
    assert backup.restore(made, NOW_US) is not None


def test_a_damaged_database_can_be_replaced(world, folder, lease):
    made = backup.back_up(folder, 7, NOW_US)
    lease.release()
    close_database()
    path = Path(world.removeprefix("sqlite:///"))
    path.write_bytes(b"zeroes, or whatever a broken disk gives" * 1000)
    assert backup.restore(made, NOW_US) is not None
    assert value("SELECT count(*) FROM feed_items") == 3


def test_where_there_is_no_database_the_backup_becomes_it(world, folder, tmp_path):
    made = backup.back_up(folder, 7, NOW_US)
    open_database(f"sqlite:///{tmp_path / 'elsewhere' / 'new.db'}")
    assert backup.restore(made, NOW_US) is None
    assert value("SELECT count(*) FROM feed_items") == 3
    close_database()


def test_with_postgresql_the_way_is_named(postgresql, folder):
    with pytest.raises(BackupFailed, match="pg_dump"):
        backup.back_up(folder, 7, NOW_US)
    release()
