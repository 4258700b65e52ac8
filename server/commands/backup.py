"""`backup`: copy an SQLite database while it is in use, and verify the copy."""

import json
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from server.commands.command import DONE, Command
from server.commands.progress import Progress
from server.commands.schema import open_as_it_is
from server.core.config import Config
from server.core.errors import ConfigError
from server.core.wording import size
from server.storage import backup


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FOLDER", help="where to; BACKUP_DIR if not given")
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def _run(config: Config, arguments: Namespace) -> int:
    folder = arguments.to or config.backup_dir
    if folder is None:
        raise ConfigError(["where to? Give --to FOLDER, or set BACKUP_DIR"])
    open_as_it_is(config)
    now_us = time.time_ns() // 1000
    made = backup.back_up(Path(folder), config.backup_keep, now_us, Progress("copying"))
    if arguments.json:
        print(json.dumps({"path": str(made.path), "bytes": made.bytes, "rows": made.rows}))
        return DONE
    print(f"{made.path}: {size(made.bytes)}, {sum(made.rows.values())} rows, verified")
    print(f"To put it back: stop the service, then `python -m server restore {made.path}`")
    return DONE


COMMAND = Command("backup", "copy the SQLite database while it is in use", _run, _add_arguments)
