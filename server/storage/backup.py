"""Copies of an SQLite database: made while it is in use, verified, rotated, and put back.

Promises. A backup has its final name only when it is whole: one moment of the database, found sound
by SQLite itself, with as many rows in each table as the original had at that moment, and on the
disk. A copy whose name tells a time to come was made when a clock was wrong: it stays, and counts
for nothing until then. In a folder that cannot be looked into no copy is made, as none would ever
be removed. Restoring never deletes: the database that is replaced stays beside the new one. It
refuses while anybody has the database open.

What it costs: the disk holds the copy as well, and writers go on meanwhile, but their log is not
folded into the file before the copy is done, so it grows.

(For PostgreSQL there is pg_dump: docs/operating.md.)
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.core.errors import BackupFailed
from server.storage import locks
from server.storage.database import DatabaseError, close_database, is_sqlite, sqlite_path
from server.storage.ownership import hand_over, open_own

# What is copied between two looks at the clock: 4 MB with SQLite's usual pages.
_STEP_PAGES = 1000
# Free space that a copy must leave, in bytes: the database goes on growing.
_SPARE_BYTES = 100_000_000
_NAME = "gapless-%Y%m%dT%H%M%SZ.db"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """A verified copy. `rows`: of each table. `cursor_us`: when its newest event was saved."""

    path: Path
    bytes: int
    rows: dict[str, int]
    cursor_us: int | None
    migrations: tuple[str, ...]


def back_up(folder: Path, keep: int, now_us: int, progress: Progress | None = None) -> Backup:
    """Copy the open database into `folder`, and remove all but the newest `keep` copies.

    Raises BackupFailed; then what was there before is still there, and maybe a copy more than
    `keep`.
    """
    source = _require_sqlite()
    lock = _lock()
    target = folder / datetime.fromtimestamp(now_us // 1_000_000, UTC).strftime(_NAME)
    part = target.with_suffix(".part")
    try:
        _make_folder(folder, source.parent)
        for other in _entries(folder):
            # Of a process that died: nobody else writes here while we hold the lock.
            if other.match("gapless-*.part"):
                other.unlink()
        _require_space(folder, source.stat().st_size)
        # Nobody else is to read who opens which feed.
        os.close(open_own(part, os.O_WRONLY))
        counted = _copy(source, part, progress)
        found = verify(part)
        if found.rows != counted:
            raise BackupFailed(f"the copy has other rows than the database: {part} was removed")
        _sync(part)
        part.rename(target)
        _sync(folder)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"no backup could be made in {folder}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
        lock.release()
    _remove(backups(folder, now_us)[keep:])
    return Backup(target, found.bytes, found.rows, found.cursor_us, found.migrations)


def backups(folder: Path, now_us: int) -> list[Path]:
    """The backups in a folder, the newest first.

    Raises BackupFailed if it cannot be looked into.
    """
    try:
        found = [path for path in _entries(folder) if made_s(path)]
    except OSError as error:
        raise BackupFailed(f"no backups can be looked for in {folder}: {error}") from error
    return sorted((path for path in found if made_s(path) <= now_us // 1_000_000), reverse=True)


def newest_s(folder: Path, now_us: int) -> int:
    """When the newest backup in a folder was made, in seconds since 1970; 0 without one.

    Raises BackupFailed if it cannot be looked into.
    """
    return max(map(made_s, backups(folder, now_us)), default=0)


def made_s(path: Path) -> int:
    """When a backup was made, in seconds since 1970, by its name; 0 for other files."""
    try:
        return int(datetime.strptime(path.name, _NAME).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def verify(path: Path) -> Backup:
    """Read a copy as a whole. Raises BackupFailed if it is not a sound database of ours."""
    if not path.is_file():
        raise BackupFailed(f"there is no file {path}")
    if path.with_name(f"{path.name}-wal").exists():
        raise BackupFailed(f"{path} is in use (it has a log beside it): `backup` makes a copy")
    try:
        with closing(sqlite3.connect(_read_only(path), uri=True)) as copy:
            problem = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if problem != "ok":
                raise BackupFailed(f"{path} is damaged: {problem}")
            rows = _count(copy)
            cursor = copy.execute("SELECT max(written_us) FROM stream_cursors").fetchone()[0]
            applied = copy.execute("SELECT name FROM schema_migration ORDER BY name").fetchall()
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} is no database of Gapless: {error}") from error
    names = tuple(str(name) for (name,) in applied)
    return Backup(path, path.stat().st_size, rows, cursor, names)


def restore(backup: Backup, now_us: int) -> Path | None:
    """Put a backup in the place of the database; where the old one is now, if there was one.

    Raises BackupFailed, with nothing changed, while anybody has the database open.
    """
    target = _require_sqlite()
    close_database()
    part = target.with_name(f"{target.name}.restoring")
    with _alone():
        try:
            if target.exists():
                _close_orderly(target)
            _require_space(target.parent, backup.bytes)
            part.unlink(missing_ok=True)
            os.close(open_own(part, os.O_WRONLY))
            shutil.copyfile(backup.path, part)
            _sync(part)
            aside = _move_aside(target, now_us) if target.exists() else None
            part.rename(target)
            _sync(target.parent)
        except OSError as error:
            raise BackupFailed(f"{backup.path} could not be put back: {error}") from error
        finally:
            part.unlink(missing_ok=True)
    return aside


def _lock() -> locks.Lock:
    try:
        lock = locks.acquire("backup")
    except DatabaseError as error:
        raise BackupFailed(str(error)) from error
    if lock is None:
        raise BackupFailed("another backup is being made: wait for it")
    return lock


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, nothing if it is not there. Path.glob finds nothing it may not see."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _make_folder(folder: Path, like: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    made = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    hand_over(made, like)
    os.close(made)


def _remove(paths: list[Path]) -> None:
    failed = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            failed.append(str(error))
    if failed:
        raise BackupFailed(f"a backup was made, but old ones cannot be removed: {failed[0]}")


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def _copy(source: Path, part: Path, progress: Progress | None) -> dict[str, int]:
    """Copy one moment of the database; the rows it had then."""
    with closing(sqlite3.connect(source, isolation_level=None, timeout=15)) as original:
        # One moment: the copy begins in this transaction, which sees no later change.
        original.execute("BEGIN")
        counted = _count(original)
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            original.backup(
                copy,
                pages=_STEP_PAGES,
                progress=lambda _, left, all_: progress and progress(all_ - left, all_),
            )
            # A file alone, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
        original.execute("COMMIT")
    return counted


def _count(connection: sqlite3.Connection) -> dict[str, int]:
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {
        name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
        for (name,) in sorted(names)
    }


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody leads, and whoever starts waits until we are done."""
    held = []
    try:
        for name in ("migrate", "ingest"):
            lock = locks.acquire(name)
            if lock is None:
                raise BackupFailed("an ingest process is running: stop the service first")
            held.append(lock)
        yield
    finally:
        for lock in held:
            lock.release()


def _close_orderly(target: Path) -> None:
    """Fold the log into the file. That works for the last one who has it open, and only then."""
    try:
        with closing(sqlite3.connect(target, timeout=1)) as connection:
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise BackupFailed(
            f"somebody has {target} open: stop the service first (web and ingest)"
        ) from error
    except sqlite3.DatabaseError:
        return  # A damaged one: whoever restores may have come for that.
    if mode != "delete":
        raise BackupFailed(f"somebody has {target} open: stop the service first")


def _move_aside(target: Path, now_us: int) -> Path:
    moment = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    aside = target.with_name(f"{target.name}.replaced-{moment:%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise BackupFailed(f"{aside} is there already: wait a second")
    for ending in ("-wal", "-shm"):
        # Of a damaged database: what could not be folded in stays with it.
        with suppress(FileNotFoundError):
            target.with_name(target.name + ending).rename(aside.with_name(aside.name + ending))
    return target.rename(aside)


def _require_sqlite() -> Path:
    if not is_sqlite():
        raise BackupFailed(
            "this database is PostgreSQL: use pg_dump and pg_restore, as docs/operating.md says"
        )
    return sqlite_path()


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise BackupFailed(
            f"{folder} has {free >> 20} MB free, and {(needed + _SPARE_BYTES) >> 20} are needed"
        )


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
