"""What the log says first: as whom this process serves, and what is special about it."""

import logging

from server.core.config import Config
from server.supervisor import is_supervised

log = logging.getLogger(__name__)

_LOCAL_TRIAL = (
    "FEED_HOSTNAME is not set: running as a local trial on http://localhost:%d, which this machine"
    " can reach and Bluesky cannot"
)


def announce(config: Config) -> None:
    """Say it, in two or three lines; for a child of `run`, the parent has done so."""
    if is_supervised():
        return
    if config.is_local_trial:
        log.info(_LOCAL_TRIAL, config.port)
    if config.allow_private_hosts:
        log.warning(
            "ALLOW_PRIVATE_HOSTS is on: requests may go to private addresses. Test networks only"
        )
    log.info("serving %s as %s", config.service_endpoint, config.service_did)
