"""Whoever wants the reader to end, or its turn, does not wait for a source that is being dialled.

What is dialled here takes 15 s; the readers of these tests have to end within WAIT_SECONDS.
"""

import threading

import pytest

from server.core.setting_values import JETSTREAM_V2_PATH
from server.ingest import compression, connection, dialling, subscriber
from server.storage.cursors import StreamCursor, save_cursor
from server.storage.database import write_transaction
from tests.builders import NOW_MS, NOW_US
from tests.ingest.conftest import WAIT_SECONDS, wait_until
from tests.ingest.troubles import deaf, hanging_resolver, swallowing

RELAY_PATH = "/xrpc/com.atproto.sync.subscribeRepos"
TROUBLES = {
    "resolver": (hanging_resolver, RELAY_PATH),
    "dictionary": (hanging_resolver, JETSTREAM_V2_PATH),
    "packets": (swallowing, RELAY_PATH),
    "handshake": (deaf, RELAY_PATH),
    "TLS handshake": (lambda: deaf("wss"), RELAY_PATH),
}

pytestmark = pytest.mark.usefixtures("sqlite")


@pytest.fixture
def is_dialled(monkeypatch):
    """Set when a socket is asked for, or whatever else blocks a thread."""
    begun, aside = threading.Event(), dialling.aside

    def spy(call):
        begun.set()
        return aside(call)

    monkeypatch.setattr(dialling, "aside", spy)
    monkeypatch.setattr(compression, "aside", spy)
    assert dialling.DIAL_SECONDS > WAIT_SECONDS
    return begun


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_stop_does_not_wait_for_what_is_dialled(reading, is_dialled, trouble):
    make, path = TROUBLES[trouble]
    with make() as url, reading(url + path):
        assert is_dialled.wait(WAIT_SECONDS)


def test_a_stop_does_not_wait_for_a_source_that_is_asked_what_time_it_was(reading, is_dialled):
    with write_transaction():
        save_cursor(StreamCursor("relay.test", 7, NOW_MS), NOW_US)
    with deaf() as url, reading(url + RELAY_PATH):
        assert is_dialled.wait(WAIT_SECONDS)


def test_a_stop_does_not_wait_for_a_preferred_source_that_is_asked_whether_it_is_well(
    net, reading, monkeypatch
):
    monkeypatch.setattr(subscriber, "TRIES_A_SOURCE", 1)
    monkeypatch.setattr(subscriber, "FIRST_CHECK_SECONDS", 0.05)
    asked, probe = [], subscriber.probe

    def spy(*args):
        asked.append(args)
        return probe(*args)

    monkeypatch.setattr(subscriber, "probe", spy)
    with deaf() as url, pytest.MonkeyPatch.context() as impatience:
        impatience.setattr(connection, "HANDSHAKE_SECONDS", 0.05)
        with reading(url + RELAY_PATH, net.relay.url):
            wait_until(lambda: net.relay.stream.readers == 1)
            impatience.undo()
            before = len(asked)
            wait_until(lambda: len(asked) > before)
    assert connection.HANDSHAKE_SECONDS > WAIT_SECONDS
