"""The wish for tracked accounts only: whoever is confirmed is told of, whatever the server does."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.errors import StreamBroken
from server.ingest import did_filter
from server.ingest.did_filter import EVERYBODY, DidFilter
from server.ingest.tracked import TrackedSet
from server.storage.repos import ITEMS
from tests.builders import did

LIMIT = 4
NAMES = [f"author{number}" for number in range(LIMIT + 2)]


class Server:
    """A line to a server that hears what is said when it is told to, and has it in force then."""

    def __init__(self):
        self.unheard = []
        self.heard = None
        self.dids = None

    def say(self, text, was_read):
        self.unheard.append((text, was_read))

    def hear(self):
        """Take the next wish in; its answer is still under way."""
        text, was_read = self.unheard.pop(0)
        wish = json.loads(text)
        assert wish["type"] == "options_update"
        assert len(wish["payload"]["wantedDids"]) <= LIMIT
        self.dids = set(wish["payload"]["wantedDids"]) or None
        return was_read


class World:
    """A tracked set that changes, a filter, and a server."""

    def __init__(self):
        self.tracked = TrackedSet()
        self.versions = {}
        self.filter = DidFilter("source", self.tracked, LIMIT)
        self.now_s, self.messages = 1000.0, 0
        self.connect()

    def connect(self):
        self.filter.ended()
        self.server, self.answer = Server(), None
        self.filter.opened(self.server, self.now_s)

    def track(self, *names):
        self.tracked.version += 1
        for name in names:
            self.tracked.wants[did(name)] = ITEMS
            self.versions[did(name)] = self.tracked.version

    def let_go(self, name):
        self.tracked.version += 1
        self.tracked.wants.pop(did(name), None)

    def hear(self):
        if self.server.unheard:
            self.answer = self.server.hear()

    def deliver_answer(self):
        if self.answer is not None:
            self.answer()
            self.answer = None

    def tick(self, seconds=0.0, messages=0, is_live=True):
        self.now_s += seconds
        self.messages += messages
        self.filter.tick(self.messages, is_live=is_live, now_s=self.now_s)

    def settle(self):
        """Until the wish for everybody who is tracked is answered."""
        for _ in range(3):
            self.tick(did_filter.SETTLE_SECONDS, messages=1)
            self.hear()
            self.deliver_answer()

    def left_out(self):
        """Who is tracked and covered, and yet not told of."""
        if self.server.dids is None:
            return set()
        covered = {one for one in self.tracked.wants if self.versions[one] <= self.filter.covered}
        return covered - self.server.dids


def test_a_connection_begins_without_a_filter_and_gets_one_when_it_is_live():
    world = World()
    world.track("author0", "author1")
    world.tick(60, messages=1, is_live=False)
    world.tick(1, messages=1)
    assert (world.server.unheard, world.filter.covered) == ([], EVERYBODY)
    world.settle()
    assert world.server.dids == {did("author0"), did("author1")}
    assert world.filter.covered == 1


def test_who_is_new_is_covered_when_the_server_has_read_of_them():
    world = World()
    world.track("author0")
    world.settle()
    world.track("author1")
    world.tick()
    assert world.filter.covered == 1
    world.hear()
    assert world.filter.covered == 1
    world.deliver_answer()
    assert world.filter.covered == 2
    assert world.server.dids == {did("author0"), did("author1")}


def test_a_change_that_names_nobody_new_is_covered_without_a_word():
    world = World()
    world.track("author0", "author1")
    world.settle()
    world.track("author0")
    world.let_go("author1")
    world.tick()
    assert world.server.unheard == []
    assert world.filter.covered == 3


def test_more_than_may_be_listed_means_no_filter():
    world = World()
    world.track(*NAMES[:LIMIT])
    world.settle()
    assert len(world.server.dids) == LIMIT
    world.track(NAMES[LIMIT])
    world.tick()
    assert world.filter.covered == 1
    world.hear()
    world.deliver_answer()
    assert (world.server.dids, world.filter.covered) == (None, EVERYBODY)
    world.let_go(NAMES[LIMIT])
    world.settle()
    assert len(world.server.dids) == LIMIT


def test_silence_lifts_the_filter_until_something_is_told():
    world = World()
    world.track("author0")
    world.settle()
    world.tick(did_filter.QUIET_SECONDS + 1)
    world.hear()
    world.deliver_answer()
    assert world.server.dids is None
    world.tick(did_filter.QUIET_SECONDS)
    assert world.server.unheard == []
    world.tick(1, messages=1)
    world.hear()
    assert world.server.dids == {did("author0")}


def test_nobody_tracked_means_no_filter():
    world = World()
    world.settle()
    assert world.server.dids is None


def test_a_server_that_never_answers_is_read_without_a_filter(caplog):
    caplog.set_level(logging.WARNING, logger=did_filter.__name__)
    world = World()
    world.track("author0")
    for _ in range(did_filter.MAX_UNANSWERED):
        world.tick(messages=1)
        world.tick(did_filter.SETTLE_SECONDS, messages=1)
        assert len(world.server.unheard) == 1
        world.tick(did_filter.ANSWER_SECONDS, messages=1)
        with pytest.raises(StreamBroken, match="not acknowledged"):
            world.tick(1, messages=1)
        world.connect()
    assert ["without a filter" in one.getMessage() for one in caplog.records] == [True]
    world.settle()
    assert (world.server.unheard, world.filter.covered) == ([], EVERYBODY)


deeds = st.one_of(
    st.tuples(st.just("track"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.tuples(st.just("let go"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(("hear", "answer", "connect")), st.none()),
    st.tuples(st.just("pass"), st.sampled_from((0.0, 1.0, 5.0, 30.0))),
    st.tuples(st.just("tell"), st.sampled_from((0.0, 5.0))),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(deeds, max_size=40))
def test_whatever_happens_in_whatever_order_nobody_who_is_covered_is_left_out(done):
    world = World()
    world.track("author0")
    world.settle()
    for what, value in done:
        match what:
            case "track":
                world.track(*value)
            case "let go":
                world.let_go(value)
            case "hear":
                world.hear()
            case "answer":
                world.deliver_answer()
            case "connect":
                world.connect()
            case _:
                try:
                    world.tick(value, messages=what == "tell")
                except StreamBroken:
                    world.connect()
        assert world.left_out() == set()
