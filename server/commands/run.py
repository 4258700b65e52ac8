"""`run`: the whole service, web and ingest."""

import logging
from argparse import Namespace

from server.commands.command import Command
from server.commands.schema import open_up_to_date
from server.core.config import Config
from server.supervisor import supervise

log = logging.getLogger(__name__)

_LOCAL_TRIAL = (
    "FEED_HOSTNAME is not set: running as a local trial on http://localhost:%d, which this machine"
    " can reach and Bluesky cannot"
)


def _run(config: Config, _arguments: Namespace) -> int:
    open_up_to_date(config)
    if config.is_local_trial:
        log.info(_LOCAL_TRIAL, config.port)
    if config.allow_private_hosts:
        log.warning(
            "ALLOW_PRIVATE_HOSTS is on: requests may go to private addresses. Test networks only"
        )
    log.info("serving %s as %s", config.service_endpoint, config.service_did)
    return supervise()


COMMAND = Command("run", "the whole service: web and ingest", _run)
