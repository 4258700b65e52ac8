"""How a command opens the database: brought up to date, or as it is."""

from server.core.config import Config
from server.storage.migrate import check_schema, migrate
from server.storage.opening import open_database
from server.supervisor import is_supervised


def open_up_to_date(config: Config) -> None:
    """Open it and apply what is missing; in a child of `run`, the parent has done so."""
    if not is_supervised():
        open_database(config.database_url)
        migrate()


def open_as_it_is(config: Config, *, read_only: bool = True) -> None:
    """Open a database that is there and has this version's tables; make and change nothing.

    Raises ConfigError that says what is wrong with it and what to do.
    """
    open_database(config.database_url, must_exist=True, read_only=read_only)
    check_schema()
