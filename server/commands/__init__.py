"""What `python -m server` can do. To add a command: a module here, and its name in COMMANDS."""

from importlib import import_module

from server.commands.command import Command

COMMANDS = (
    "run",
    "web",
    "ingest",
    "migrate",
    "status",
    "doctor",
    "explain",
    "backup",
    "restore",
    "cursor",
    "forget",
)


def load_command(name: str) -> Command:
    """One of COMMANDS. Imported when it is wanted: nobody waits for what the others need."""
    command: Command = import_module(f"server.commands.{name}").COMMAND
    return command
