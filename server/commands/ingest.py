"""`ingest`: only the stream's reader, the backfill and the schedule, until a signal."""

import logging
import os
import threading
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from server.commands.announce import announce
from server.commands.command import Command
from server.commands.schema import open_up_to_date
from server.core.config import Config
from server.core.garbage import collect_less
from server.core.signals import stop_at_signals
from server.open_files import allow_many_files
from server.runtime import run_ingest
from server.storage.opening import open_database
from server.supervisor import die_with_parent

# The threads that speak to the database: the reader, the backfill's two, those that look up
# strangers' posts, the schedule's.
MAX_CONNECTIONS = 24
# Where the processor is short, as when it catches up after an outage, whoever answers readers goes
# first: this is a tenth of the usual share, five times what the live stream needs.
NICENESS = 10
AUTOGROUP = Path("/proc/self/autogroup")


def _run(config: Config, _arguments: Namespace) -> int:
    open_up_to_date(config)
    announce(config)
    die_with_parent()
    stop = threading.Event()
    stop_at_signals(stop)
    open_database(config.database_url, max_connections=MAX_CONNECTIONS)
    allow_many_files()
    stand_back()
    collect_less()
    run_ingest(config, stop)
    # Requests to a slow PDS may still be under way in their threads; they have nothing to save.
    logging.shutdown()
    os._exit(0)


def stand_back() -> None:
    """Let others have the processor first, where it is short.

    Many kernels share it between sessions before they look at niceness (sched(7), autogroup). So
    where the session is ours alone, as under `run`, it gets the same.
    """
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            AUTOGROUP.write_text(str(NICENESS))


COMMAND = Command("ingest", "only the stream's reader, the backfill and the schedule", _run)
