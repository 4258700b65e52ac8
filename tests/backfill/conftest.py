"""A network to be read from, and what a backfill needs of the world."""

import pytest

from server.backfill.author import Sources
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from simnet import Network


@pytest.fixture
def net():
    with Network(seed=5, pds=2) as network:
        yield network


@pytest.fixture
def sources(net, lease):
    fetcher = Fetcher(allow_private_hosts=True, user_agent="Gapless/test")
    yield Sources(fetcher, Directory(net.plc.url, fetcher), 7, lease.epoch)
    fetcher.close()
