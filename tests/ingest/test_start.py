"""Where to start on a relay whose numbers we do not know: asked of a relay made of numbers."""

import asyncio
import threading
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ingest import start
from server.ingest.source import source_of
from tests.builders import NOW_MS
from tests.ingest.jetstream_messages import v1
from tests.ingest.test_websocket import serving, wait_closed

RELAY = source_of("wss://relay.test/xrpc/com.atproto.sync.subscribeRepos", "Gapless/test")
HOUR_MS = 3_600_000


class Numbers:
    """A relay that kept the events with these numbers and times, and is being told new ones."""

    def __init__(self, first_seq, times, is_live=True):
        self.first_seq, self.times, self.is_live = first_seq, times, is_live
        self.asked = []

    async def probe(self, source, user_agent, cursor):
        self.asked.append(cursor)
        if cursor is None:
            return start.Found(self.first_seq + len(self.times), NOW_MS) if self.is_live else None
        # Like relays: everything above the number, and from the oldest if that is forgotten.
        place = max(cursor + 1 - self.first_seq, 0)
        if place >= len(self.times):
            return None
        return start.Found(self.first_seq + place, self.times[place])


def find(relay, saved_ms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "probe", relay.probe)
        return asyncio.run(start._number_before(RELAY, "Gapless/test", saved_ms, NOW_MS))


@settings(deadline=None)
@given(
    first_seq=st.sampled_from((1, 40_000, 26_000_000_000)),
    hours=st.integers(1, 72),
    per_hour=st.integers(1, 2000),
    away_ms=st.integers(0, 80 * HOUR_MS),
)
def test_reading_starts_before_what_is_saved_or_at_the_oldest_with_a_hole(
    first_seq, hours, per_hour, away_ms
):
    step = HOUR_MS // per_hour
    times = list(range(NOW_MS - hours * HOUR_MS, NOW_MS, step))
    relay, saved_ms = Numbers(first_seq, times), NOW_MS - away_ms
    number, is_reached = find(relay, saved_ms)
    reaches_back = times[0] <= saved_ms - start.OVERLAP_MS
    assert is_reached == reaches_back
    first_read = max(number + 1 - first_seq, 0)
    if is_reached:
        assert first_read <= bisect_left(times, saved_ms - start.OVERLAP_MS)
    else:
        assert first_read == 0


def test_after_a_day_of_the_real_network_few_questions_are_asked_and_little_is_read_twice():
    # 500 events a second for three days, without keeping them all.
    class Steady(list):
        def __len__(self):
            return 72 * 3600 * 500

        def __getitem__(self, place):
            return NOW_MS - 72 * HOUR_MS + place * 2

    relay = Numbers(26_000_000_000, Steady())
    for away_ms in (10_000, 600_000, HOUR_MS, 24 * HOUR_MS):
        relay.asked.clear()
        number, is_reached = find(relay, NOW_MS - away_ms)
        assert is_reached
        assert len(relay.asked) <= 3
        missing_ms = away_ms + start.OVERLAP_MS
        assert NOW_MS - relay.times[number - relay.first_seq] <= 3 * missing_ms


def test_a_network_too_quiet_to_be_asked_is_read_from_its_oldest_event():
    old = Numbers(100, [NOW_MS - HOUR_MS], is_live=False)
    assert find(old, NOW_MS - 1000) == (0, True)
    empty = Numbers(100, [], is_live=False)
    assert find(empty, NOW_MS - 1000) == (0, False)


def test_a_source_that_is_slow_to_connect_to_has_its_time_to_speak(monkeypatch):
    clock, was_asked = [0.0], threading.Event()
    tick = start._Probe.tick

    def ticking(probe):
        goes_on = tick(probe)
        was_asked.set()
        return goes_on

    def shake_hands(connection, request):
        clock[0] += start.PROBE_SECONDS * 2

    def talk(connection):
        assert was_asked.wait(5)
        for _ in range(start.PROBE_EVENTS):
            connection.send(v1())
        wait_closed(connection)

    monkeypatch.setattr(start, "monotonic", lambda: clock[0])
    monkeypatch.setattr(start._Probe, "tick", ticking)
    with serving(talk, process_request=shake_hands) as url:
        jetstream = source_of(url.replace("/path", "/subscribe"), "Gapless/test")
        found = asyncio.run(start.probe(jetstream, "Gapless/test", None))
    assert found is not None
    assert found.time_ms == NOW_MS
