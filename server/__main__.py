"""The commands: `python -m server run | web | ingest | migrate`."""

import argparse
import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from dotenv import load_dotenv

from server.core.config import Config, load_config
from server.core.errors import ConfigError
from server.logs import configure_logging
from server.runtime import run_ingest
from server.storage.database import DatabaseError, open_database
from server.storage.migrate import migrate
from server.supervisor import die_with_parent, is_supervised, supervise

log = logging.getLogger("server")

MAX_FILES = 8192

_LOCAL_TRIAL = (
    "FEED_HOSTNAME is not set: running as a local trial on http://localhost:%d, which this machine"
    " can reach and Bluesky cannot"
)


def main(arguments: list[str]) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 wrong settings or words."""
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    commands = {
        "run": "the whole service: web and ingest",
        "web": "only the web server (gunicorn)",
        "ingest": "only the stream's reader, the backfill and the schedule",
        "migrate": "bring the database up to date and end",
    }
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in commands.items():
        subparsers.add_parser(name, help=text, description=text)
    command = parser.parse_args(arguments).command
    load_dotenv(Path(".env"))
    try:
        config = load_config(os.environ)
        configure_logging(config.log_format, config.log_level)
        return _run(command, config)
    except ConfigError as error:
        print("Gapless cannot start:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return 2


def _run(command: str, config: Config) -> int:
    if not is_supervised():
        open_database(config.database_url)
        try:
            migrate()
        except DatabaseError as error:
            log.error("the database cannot be used: %s", error)  # noqa: TRY400  it says it all
            return 1
    if command == "run":
        _announce(config)
        return supervise()
    if command == "web":
        _serve()
    if command == "ingest":
        _ingest(config)
    return 0


def _announce(config: Config) -> None:
    if config.is_local_trial:
        log.info(_LOCAL_TRIAL, config.port)
    if config.allow_private_hosts:
        log.warning(
            "ALLOW_PRIVATE_HOSTS is on: requests may go to private addresses. Test networks only"
        )
    log.info("serving %s as %s", config.service_endpoint, config.service_did)


def _serve() -> None:
    die_with_parent()
    conf = Path(__file__).with_name("gunicorn_conf.py")
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", str(conf), "server.app:from_environment()"]
    os.execv(sys.executable, gunicorn)  # noqa: S606  our own command


def _ingest(config: Config) -> None:
    die_with_parent()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    # The threads that speak to the database: the reader, the backfill's two, those that look up
    # strangers' posts, the schedule's and those that ask for it.
    open_database(config.database_url, max_connections=32)
    _allow_many_sockets()
    run_ingest(config, stop)
    # Requests to a slow PDS may still be under way in their threads; they have nothing to save.
    logging.shutdown()
    os._exit(0)


def _allow_many_sockets() -> None:
    """Connections to many PDSes are kept open; the usual 1,024 files could be too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
