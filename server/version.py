"""The version of Gapless, and the name by which its requests go."""

from server.core.config import Config

VERSION = "0.1.0"


def user_agent(config: Config) -> str:
    """Who we say we are, so that the operator of a PDS or a relay knows whom to talk to."""
    return f"Gapless/{VERSION} (+{config.service_endpoint})"
