"""The commands of the service. Each is a module of server/commands/."""

import argparse
import logging
import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from server.arming import arm_crash_point
from server.commands import COMMANDS, load_command
from server.commands.command import FAILED, WRONG_WORDS
from server.core.config import load_config
from server.core.errors import BackupFailed, ConfigError
from server.error_tracking import start_error_tracking
from server.logs import configure_logging
from server.storage.database import DatabaseError
from server.version import VERSION

log = logging.getLogger("server")


def main(words: list[str]) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 wrong settings or words."""
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only for help, or an unknown word, is it all of them.
    for command in map(load_command, {*words[:1]} & {*COMMANDS} or COMMANDS):
        own = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    arguments = parser.parse_args(words)
    try:
        read_dotenv()
        config = load_config(os.environ)
        configure_logging(config.log_format, config.log_level)
        start_error_tracking(config.sentry_dsn, VERSION)
        arm_crash_point(config, os.environ)
        status: int = arguments.run(config, arguments)
    except ConfigError as error:
        print(f"Gapless cannot {arguments.command}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return WRONG_WORDS
    except BackupFailed as error:
        print(f"Gapless cannot {arguments.command}: {error}", file=sys.stderr)
        return FAILED
    except DatabaseError as error:
        log.error("the database cannot be used: %s", error)  # noqa: TRY400  it says it all
        return FAILED
    return status


def read_dotenv() -> None:
    """What `.env` says, where the environment does not. Raises ConfigError if it cannot be read."""
    try:
        load_dotenv(Path(".env"), interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f".env cannot be read: {error}"]) from error


def console() -> None:
    """The command `gapless`, once installed: the same as `python -m server`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
