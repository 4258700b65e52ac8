"""What only tests may ask for, by environment variables that are no settings."""

from collections.abc import Mapping

from server.core.config import Config
from server.core.errors import ConfigError
from server.storage import crash_points


def arm_crash_point(config: Config, environ: Mapping[str, str]) -> None:
    """Let this process die at the crash point that a test names. Raises ConfigError.

    Refused unless ALLOW_PRIVATE_HOSTS is on, which no public server may have.
    """
    text = environ.get(crash_points.VARIABLE)
    if not text:
        return
    if not config.allow_private_hosts:
        raise ConfigError([f"{crash_points.VARIABLE} is for tests, and this is no test network"])
    try:
        crash_points.arm(text)
    except ValueError as error:
        raise ConfigError([f"{crash_points.VARIABLE}: {error}"]) from error
