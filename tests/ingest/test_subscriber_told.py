"""The subscriber and a source that says what is wrong with a cursor, as a PDS does."""

import pytest

from server.storage.database import execute
from server.storage.gaps import open_gaps
from simnet import Network
from tests.ingest.asking import wait_for_all
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def net():
    with Network(seed=4, relay_announces_cursor_trouble=True) as network:
        yield network


@pytest.fixture
def alice(net, tracked, reading):
    account = net.create_account("alice")
    with reading(net.relay.url):
        wait_until(lambda: net.relay.stream.readers == 1)
        account.post("one")
        wait_for_all(net)
    tracked(account)
    assert open_gaps(9) == []
    return account


def test_an_outdated_cursor_opens_a_gap_however_young_it_is(net, alice, reading):
    for number in range(3):
        alice.post(str(number))
    net.relay.stream.forget(keep=1)
    with reading(net.relay.url):
        wait_for_all(net)
    assert "cursor outdated" in {gap.reason for gap in open_gaps(9)}


def test_a_cursor_in_the_future_opens_a_gap_and_reading_goes_on(net, alice, reading):
    execute("UPDATE stream_cursors SET seq = seq + 1000")
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        # The first connection is refused in words.
        wait_until(lambda: counters.connections == 2)
        alice.post("two")
        wait_for_all(net)
    assert "future cursor" in {gap.reason for gap in open_gaps(9)}
