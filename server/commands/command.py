"""What a command is: a name, a line of help, its own words, and a function that does it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

from server.core.config import Config

# Exit statuses that every command means the same by.
DONE, FAILED, WRONG_WORDS = 0, 1, 2


def no_arguments(_parser: ArgumentParser) -> None:
    """For a command that is only a name."""


@dataclass(frozen=True, slots=True)
class Command:
    """`run` gets the settings and the words, and returns the exit status.

    It may raise ConfigError (status 2) and DatabaseError (status 1): both are told in a sentence.
    """

    name: str
    help: str
    run: Callable[[Config, Namespace], int]
    add_arguments: Callable[[ArgumentParser], None] = no_arguments
