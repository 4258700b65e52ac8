"""`restore`: put a backup in the place of the database, which is kept beside it.

What happened since the backup is read from the stream again, or fetched where the stream does not
reach back so far: the first event after the hole opens a gap, as after any outage.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from server.commands.command import DONE, FAILED, Command
from server.core.config import Config
from server.core.errors import ConfigError
from server.core.wording import duration, moment, size
from server.storage import backup
from server.storage.backup import Backup
from server.storage.database import is_sqlite, sqlite_path
from server.storage.migrate import known_names
from server.storage.opening import open_database


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("backup", metavar="FILE", help="a file that `backup` made")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="there is a database already: put it aside, under another name",
    )
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def _run(config: Config, arguments: Namespace) -> int:
    open_database(config.database_url)
    now_us = time.time_ns() // 1000
    found = backup.verify(Path(arguments.backup))
    newer = set(found.migrations) - known_names()
    if newer:
        raise ConfigError(
            [f"{found.path} was made by a newer Gapless (it has {', '.join(sorted(newer))})"]
        )
    if not arguments.json:
        print(_told(found, now_us))
    if is_sqlite() and sqlite_path().exists() and not arguments.replace:
        print(
            f"There is a database at {sqlite_path()}, and nothing was changed."
            " With --replace it is put aside, and the backup takes its place.",
            file=sys.stderr,
        )
        return FAILED
    aside = backup.restore(found, now_us)
    if arguments.json:
        print(json.dumps({"rows": found.rows, "replaced": None if aside is None else str(aside)}))
        return DONE
    if aside is not None:
        print(f"The database that was there is {aside} now: delete it when you are sure.")
    print("Restored. Start the service: what is missing is read or fetched by itself.")
    return DONE


def _told(found: Backup, now_us: int) -> str:
    text = f"{found.path}: {size(found.bytes)}, {sum(found.rows.values())} rows, sound"
    if found.cursor_us is None:
        return f"{text}; nothing of a stream was saved in it"
    age = duration((now_us - found.cursor_us) / 1e6)
    return f"{text}; the stream was read up to {moment(found.cursor_us)}, {age} ago"


COMMAND = Command("restore", "put a backup in the database's place", _run, _add_arguments)
