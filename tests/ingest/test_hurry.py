"""While the stream is behind, busy threads have to give the interpreter back sooner."""

import sys
import time

import pytest

from server.ingest import hurry
from server.ingest import reading as reading_module
from server.ingest.hurry import HURRIED_SWITCH_SECONDS, SWITCH_SECONDS
from server.ingest.reading import Reading
from simnet import Network
from tests.ingest.asking import wait_for_all
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db")


def is_hurried():
    interval = sys.getswitchinterval()
    assert interval == pytest.approx(SWITCH_SECONDS) or interval == pytest.approx(
        HURRIED_SWITCH_SECONDS
    )
    return interval == pytest.approx(HURRIED_SWITCH_SECONDS)


@pytest.fixture
def usual():
    """As Python has it, before and after."""
    before = sys.getswitchinterval()
    assert before == pytest.approx(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(before)


def test_what_comes_of_the_past_hurries_until_it_ends(
    net, alice, at_rest, reading, monkeypatch, usual
):
    monkeypatch.setattr(reading_module, "LIVE_MS", -(10**9))
    monkeypatch.setattr(hurry, "HURRY_SECONDS", 0.3)
    with reading(net.relay.url):
        alice.post("of the past")
        wait_until(is_hurried)
        wait_for_all(net)
        # Nothing more comes.
        wait_until(lambda: not is_hurried())
        alice.post("again")
        wait_until(is_hurried)
    assert not is_hurried()


def test_what_comes_now_does_not(net, alice, at_rest, reading, monkeypatch, usual):
    monkeypatch.setattr(reading_module, "LIVE_MS", 10**15)
    asked = []
    monkeypatch.setattr(sys, "setswitchinterval", asked.append)
    with reading(net.relay.url):
        for number in range(20):
            alice.post(f"{number}")
        wait_for_all(net)
    assert asked == []


def test_a_source_that_is_well_leaves_the_hurry_of_another_alone(
    lease, reading, monkeypatch, usual
):
    with Network(seed=7, relays=2) as net:
        behind, well = net.relays
        name = f"127.0.0.1:{behind.server.port}"
        monkeypatch.setattr(Reading, "_is_live", lambda self: self.source.name != name)
        alice = net.create_account("alice")
        _watch(net, reading, alice, f"{behind.url}+{well.url}")
    assert not is_hurried()


def _watch(net, reading, alice, urls):
    with reading(urls):
        wait_until(lambda: all(relay.stream.readers == 1 for relay in net.relays))
        alice.post("first")
        wait_until(is_hurried)
        for number in range(20):
            alice.post(f"{number}")
            time.sleep(0.02)
            assert is_hurried()
