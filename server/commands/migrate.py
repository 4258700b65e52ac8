"""`migrate`: bring the database up to date, and end."""

from argparse import Namespace

from server.commands.command import DONE, Command
from server.commands.schema import open_up_to_date
from server.core.config import Config


def _run(config: Config, _arguments: Namespace) -> int:
    open_up_to_date(config)
    return DONE


COMMAND = Command("migrate", "bring the database up to date and end", _run)
