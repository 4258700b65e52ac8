"""The one way out of a process: whoever asks other hosts, or DNS, does so through this."""

from urllib.parse import urlsplit

from server.core.config import Config
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.identity.handles import Handles
from server.identity.txt_records import TxtRecords, system_resolvers
from server.version import user_agent

# Requests of ours at a time: to any host, and to the directory, which all accounts have in common.
REQUESTS_A_HOST, REQUESTS_TO_DIRECTORY = 16, 48


def make_fetcher(config: Config) -> Fetcher:
    """One for each process, so that its bounds hold for all of it."""
    return Fetcher(
        config.allow_private_hosts,
        REQUESTS_A_HOST,
        user_agent=user_agent(config),
        roomy={urlsplit(config.plc_url).netloc: REQUESTS_TO_DIRECTORY},
    )


def make_txt_records() -> TxtRecords:
    """What asks the system's resolvers."""
    return TxtRecords(system_resolvers)


def make_handles(config: Config, fetcher: Fetcher) -> Handles:
    """What finds accounts by their handles, in DNS and through `fetcher`."""
    return Handles(
        fetcher,
        Directory(config.plc_url, fetcher),
        make_txt_records(),
        allow_test_names=config.allow_private_hosts,
    )
