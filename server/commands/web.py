"""`web`: only the web server. This process becomes gunicorn."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from server.commands.announce import announce
from server.commands.command import Command
from server.commands.schema import open_up_to_date
from server.core.config import Config
from server.metrics_folder import VARIABLE, make_metrics_folder
from server.open_files import allow_many_files
from server.supervisor import die_with_parent

_CONF = Path(__file__).resolve().parents[1] / "gunicorn_conf.py"


def _run(config: Config, _arguments: Namespace) -> int:
    open_up_to_date(config)
    announce(config)
    die_with_parent()
    allow_many_files()
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", str(_CONF), "server.app:from_environment()"]
    os.environ[VARIABLE] = str(make_metrics_folder())
    os.execv(sys.executable, gunicorn)  # noqa: S606  our own command


COMMAND = Command("web", "only the web server (gunicorn)", _run)
