"""Bring the schema up to date, once, however many processes start together.

The lock ends with its holder (see `locks`), so a process that dies while it migrates lets the next
one in. Each migration runs in a transaction of its own together with the line that records it.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from playhouse.migrations import Runner

from server.core.errors import ConfigError
from server.storage import locks
from server.storage.crash_points import crash_point
from server.storage.database import close_database, current, is_sqlite, sqlite_path
from server.storage.opening import patiently
from server.storage.ownership import open_own

log = logging.getLogger(__name__)

DIRECTORY = Path(__file__).resolve().parents[2] / "migrations"
# Longer than any migration of ours may take on a large database.
WAIT_SECONDS = 600.0


def migrate() -> list[str]:
    """Apply what is missing; the names of the migrations applied now.

    Raises ConfigError if the database was made by a newer Gapless, or if another process holds the
    lock for longer than WAIT_SECONDS.
    """
    lock = locks.acquire("migrate", wait_s=WAIT_SECONDS)
    if lock is None:
        raise ConfigError([f"another process has been migrating for over {WAIT_SECONDS:.0f} s"])
    try:
        _make_file()
        _spare_memory()
        runner = Runner(current(), str(DIRECTORY))
        _refuse_newer(runner)
        crash_point("migrate: locked")
        # What goes through all rows may take longer than any statement of the service.
        with patiently(0):
            applied = [str(name) for name in runner.up()]
        crash_point("migrate: applied")
    finally:
        lock.release()
        close_database()
    if applied:
        log.info("migrated steps=%s", ",".join(applied))
    return applied


def _make_file() -> None:
    if is_sqlite():
        # If it cannot be made, SQLite says why. The mode is SQLite's own, too.
        with suppress(OSError):
            os.close(open_own(sqlite_path().resolve(), os.O_RDWR, 0o644))


def _spare_memory() -> None:
    """What SQLite sets aside goes to a file, until the connection is closed.

    To write a large table anew takes 120 bytes a row for that, more than a small machine has.
    """
    if is_sqlite():
        current().execute_sql("PRAGMA temp_store = file")


def known_names() -> set[str]:
    """The migrations that this version has."""
    return {path.stem for path in DIRECTORY.glob("[0-9]*.py")}


def check_schema() -> None:
    """Change nothing; raises ConfigError unless the database has exactly this version's tables."""
    runner = Runner(current(), str(DIRECTORY))
    _refuse_newer(runner)
    missing = [step.name for step in runner.status() if step.applied is None]
    if missing:
        raise ConfigError(
            [
                f"the database is older than this Gapless (it lacks {', '.join(missing)}):"
                " `python -m server migrate` brings it up to date, as every start does"
            ]
        )


def _refuse_newer(runner: Runner) -> None:
    unknown = [step.name for step in runner.status() if step.path is None]
    if unknown:
        raise ConfigError(
            [f"the database was made by a newer Gapless (it has {', '.join(unknown)})"]
        )
