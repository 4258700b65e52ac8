"""`run`: the whole service, web and ingest."""

from argparse import Namespace

from server.commands.announce import announce
from server.commands.command import Command
from server.commands.schema import open_up_to_date
from server.core.config import Config
from server.supervisor import supervise


def _run(config: Config, _arguments: Namespace) -> int:
    open_up_to_date(config)
    announce(config)
    return supervise()


COMMAND = Command("run", "the whole service: web and ingest", _run)
