"""Turns: what waits, what is read meanwhile, and how it ends."""

import asyncio
import json
from dataclasses import replace

import pytest

from server.core.events import Skipped
from server.ingest import reading, turns
from server.ingest.turns import Turns
from tests.ingest.test_unreadable import GOOD, Told


class Transport:
    """Notes whether it reads."""

    is_reading = True

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True


class Work:
    """Turns of a transport in a loop of its own, and what happened."""

    def __init__(self):
        self.happened = []
        self.transport = Transport()
        self.turns = Turns(self.transport, self.after, self.happened.append)

    def after(self):
        self.happened.append("turn")

    def steps(self, count):
        for number in range(count):
            self.happened.append(number)
            yield


def in_loop(test):
    """Run a test that is a coroutine, with turns of one step each."""

    async def begin():
        await test(Work())

    def run(monkeypatch):
        monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
        asyncio.run(begin())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@in_loop
async def test_after_each_turn_the_loop_goes_round(work):
    asyncio.get_running_loop().call_soon(work.happened.append, "other")
    work.turns.take_in(work.steps(2))
    assert (work.turns.is_behind, work.transport.is_reading) == (True, False)
    for _ in range(4):
        await asyncio.sleep(0)
    assert work.happened == [0, "turn", "other", 1, "turn", "turn"]
    assert (work.turns.is_behind, work.transport.is_reading) == (False, True)


@in_loop
async def test_what_fits_in_a_turn_is_taken_in_at_once(work):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "TURN_SECONDS", 60.0)
        work.turns.take_in(work.steps(3))
    assert work.happened == [0, 1, 2, "turn"]
    assert (work.turns.is_behind, work.transport.is_reading) == (False, True)


@in_loop
async def test_nobody_has_a_socket_read_while_something_waits(work):
    work.turns.take_in(work.steps(2))
    work.turns.listen()
    assert not work.transport.is_reading


@in_loop
async def test_who_listens_has_it_read_when_nothing_waits(work):
    work.transport.pause_reading()
    work.turns.listen()
    assert work.transport.is_reading


@in_loop
async def test_what_is_dropped_is_not_taken_in(work):
    work.turns.take_in(work.steps(2))
    work.turns.when_done(lambda: work.happened.append("done"))
    work.turns.drop()
    await asyncio.sleep(0.01)
    assert (work.happened, work.turns.is_behind) == ([0, "turn"], False)


@in_loop
async def test_the_end_is_told_once_when_all_is_done(work):
    work.turns.when_done(lambda: work.happened.append("at once"))
    work.turns.take_in(work.steps(1))
    work.turns.when_done(lambda: work.happened.append("then"))
    await asyncio.sleep(0.01)
    work.turns.take_in(work.steps(0))
    assert work.happened == ["at once", 0, "turn", "turn", "then", "turn"]


@in_loop
async def test_a_step_that_fails_is_the_last(work):
    error = LookupError("a step")

    def steps():
        yield
        raise error

    work.turns.take_in(steps())
    work.turns.when_done(lambda: work.happened.append("then"))
    await asyncio.sleep(0.01)
    assert work.happened == ["turn", error, "then"]
    assert not work.turns.is_behind


@in_loop
async def test_what_fails_after_a_turn_ends_them(work):
    def fail():
        raise LookupError("no pong")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work.turns, "_after", fail)
        work.turns.take_in(work.steps(3))
        await asyncio.sleep(0.01)
    assert work.happened[0] == 0
    assert [str(error) for error in work.happened[1:]] == ["no pong"]


@pytest.fixture
def told(sqlite, lease, monkeypatch):
    monkeypatch.setattr(reading, "STEP_MESSAGES", 10)
    return Told(lease.epoch)


def test_messages_are_decoded_some_at_a_time_and_counted_as_they_are(told):
    counted = [told.counters.messages for _ in told.hand_over(*[GOOD] * 25)]
    assert (counted, told.counters.messages) == ([10, 20], 25)


def test_those_that_are_passed_over_count_as_well(told):
    # As a Jetstream writes it, which is what strangers are known by.
    stranger = json.dumps(json.loads(GOOD), separators=(",", ":"))
    told.tell(*[stranger] * reading.FIRST_EVENTS)
    counted = [told.counters.messages for _ in told.hand_over(*[stranger] * 100)]
    assert (counted, told.counters.messages) == ([], reading.FIRST_EVENTS + 100)


def test_messages_that_are_compressed_are_decoded_one_at_a_time(told):
    told.reading.source = replace(told.reading.source, dictionary=object())
    told.reading.decode = lambda message, wants: Skipped(1, 1)
    spans = [(number, number + 1) for number in range(9)]
    steps = told.reading.messages(memoryview(bytes(9)), spans, is_text=False)
    assert [told.counters.messages for _ in steps] == list(range(1, 10))
    # What it sends as text all the same is not.
    assert [told.counters.messages for _ in told.hand_over(*[GOOD] * 9)] == []
