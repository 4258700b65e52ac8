"""Who waits for the database for long is told of: once while it lasts, and once afterwards."""

from types import SimpleNamespace

import pytest

from server.storage import stalls
from server.storage.stalls import DatabaseWait


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=100.0)
    found.monotonic = lambda: found.now
    monkeypatch.setattr(stalls, "time", found)
    return found


def test_a_long_wait_is_told_once_while_it_lasts_and_once_when_it_is_over(clock, caplog):
    wait = DatabaseWait("stream")
    for _ in range(2):
        caplog.clear()
        with wait.under_way():
            clock.now += 4.9
            assert wait.look() == pytest.approx(4.9)
            assert caplog.messages == []
            clock.now += 0.2
            assert wait.look() == pytest.approx(5.1)
            clock.now += 20
            assert wait.look() == pytest.approx(25.1)
            (told,) = caplog.messages
            assert told.startswith("still waiting for the database who=stream seconds=5.1: ")
        assert caplog.messages[1:] == ["waited for the database who=stream seconds=25.1"]
        assert wait.look() == 0


def test_a_short_wait_is_nothing_to_talk_of(clock, caplog):
    wait = DatabaseWait("stream")
    for _ in range(10):
        with wait.under_way():
            clock.now += 4.9
            wait.look()
    assert caplog.messages == []


def test_a_wait_that_ends_in_an_error_is_over(clock, caplog):
    wait = DatabaseWait("backfill")

    def fail():
        with wait.under_way():
            clock.now += 20
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert wait.look() == 0
    # Nobody looked meanwhile: it is told all the same.
    assert caplog.messages == ["waited for the database who=backfill seconds=20.0"]
