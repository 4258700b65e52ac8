"""A source that does not go on at our cursor: a hole of everybody, on from now, never silently."""

import logging
from collections import Counter
from http import HTTPStatus

import pytest

from server.core.setting_values import JETSTREAM_V1_PATH, JETSTREAM_V2_PATH, RELAY_PATH
from server.ingest import reading as reading_module
from server.ingest import start, subscriber
from server.ingest.doubts import MAX_UNREADABLE
from server.storage.cursors import load_position
from simnet import Network
from simnet.frames import error
from tests.ingest.asking import item_count, queued, reasons
from tests.ingest.conftest import WAIT_SECONDS, wait_until
from tests.ingest.test_websocket import serving, wait_closed

pytestmark = pytest.mark.usefixtures("db", "brisk")

HOLE = (None, "cursor too old")
UNREADABLE = "nothing that it says can be read"


@pytest.fixture
def net():
    with Network(seed=11, relays=2, jetstreams=1) as network:
        yield network


@pytest.fixture
def strict(net, monkeypatch):
    """A Jetstream that refuses times which it has forgotten."""
    monkeypatch.setattr(start, "OVERLAP_MS", 0)
    net.jetstreams[0].refuses_old_times = True
    return net.jetstreams[0]


def hear_what_is_new(running, strict, alice):
    """What the source tells once it stands; returns its counters."""
    (counters,) = running.subscriber.counters.values()
    wait_until(lambda: counters.connected_us)
    alice.post("new")
    wait_until(lambda: load_position().seq == strict.stream.last_seq)
    return counters


def forget(strict, alice):
    """What alice says, and nobody tells any more."""
    alice.post("forgotten")
    strict.stream.forget()


@pytest.mark.parametrize("before", ["itself", "a relay"])
def test_a_jetstream_that_refuses_an_old_time_is_read_from_now_on_after_a_hole(
    net, strict, alice, bob, at_rest, reading, caplog, before
):
    caplog.set_level(logging.WARNING)
    if before == "itself":
        with reading(strict.v2_url):
            alice.post("read")
            wait_until(lambda: load_position().seq == strict.stream.last_seq)
    said = item_count()
    forget(strict, alice)
    with reading(strict.v2_url) as running:
        counters = hear_what_is_new(running, strict, alice)
    assert item_count() == said + 1
    assert Counter(reasons())[HOLE] == 1
    assert queued() == {alice.did, bob.did}
    assert (counters.broken, counters.gaps, counters.connections) == ({"CursorTooOld": 1}, 1, 1)
    (source,) = running.subscriber.counters
    refused, opened = (record.getMessage() for record in caplog.records)
    assert refused.startswith(f"stream broken source={source} kind=CursorTooOld retry_s=")
    assert "status 400: CursorTooOld: cursor " in refused
    assert opened == f"gap opened source={source} reason=cursor too old"
    counted = running.subscriber.metrics.registry.get_sample_value
    assert counted("gapless_gaps_opened_total", {"scope": "everybody"}) == 1
    assert counted("gapless_stream_breaks_total", {"source": source, "kind": "CursorTooOld"}) == 1


def test_the_hole_is_written_when_the_source_speaks_and_not_before(
    strict, alice, at_rest, reading, monkeypatch
):
    """Whoever were fetched earlier could miss what happens in between."""
    monkeypatch.setattr(reading_module, "STANDING_SECONDS", WAIT_SECONDS)
    forget(strict, alice)
    with reading(strict.v2_url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.connections == 1 and strict.stream.readers == 1)
        assert (reasons(), counters.connected_us) == ([], None)
        alice.post("new")
        wait_until(lambda: HOLE in reasons())


def test_a_source_beside_it_that_goes_on_does_not_spare_the_hole(
    net, strict, alice, at_rest, reading
):
    """Its cursor will say that what the other has yet to tell is saved."""
    forget(strict, alice)
    with reading(f"{net.relay.url}+{strict.v2_url}") as running:
        of_relay, of_strict = running.subscriber.counters.values()
        wait_until(lambda: of_relay.connected_us and of_strict.connected_us)
    assert (of_relay.gaps, of_strict.gaps) == (0, 1)
    assert HOLE in reasons()


def by_status(name):
    def refuse(connection, request):
        if "cursor=" not in request.path:
            return None
        answer = connection.respond(HTTPStatus.BAD_REQUEST, f'{{"error":"{name}","message":"x"}}')
        answer.headers["Content-Type"] = "application/json"
        return answer

    return serving(wait_closed, process_request=refuse)


def by_word(*words, closes=False):
    def talk(connection):
        if "cursor=" in connection.request.path:
            if closes:
                connection.close(1008, *words)
            for word in words:
                connection.send(word)
        wait_closed(connection)

    return serving(talk)


@pytest.fixture
def asked(monkeypatch):
    """Whether a source was asked to go on at a cursor, each time that it was to be read."""
    times, read = [], subscriber.Subscriber._read_from

    def note(self, begin, *rest):
        times.append(begin.cursor is not None)
        return read(self, begin, *rest)

    monkeypatch.setattr(subscriber.Subscriber, "_read_from", note)
    return times


@pytest.mark.parametrize(
    ("path", "refuse", "reason"),
    [
        (JETSTREAM_V1_PATH, lambda: by_status("CursorTooOld"), "cursor too old"),
        (JETSTREAM_V2_PATH, lambda: by_status("FutureCursor"), "future cursor"),
        (
            JETSTREAM_V2_PATH,
            lambda: by_word('{"$type":"error","error":"CursorTooOld","message":"x"}'),
            "cursor too old",
        ),
        (JETSTREAM_V2_PATH, lambda: by_word("CursorTooOld", closes=True), "cursor too old"),
        (JETSTREAM_V1_PATH, lambda: by_word(*["no JSON"] * MAX_UNREADABLE), UNREADABLE),
        (RELAY_PATH, lambda: by_status("FutureCursor"), "future cursor"),
        (RELAY_PATH, lambda: by_word(error("FutureCursor", "x")), "future cursor"),
    ],
)
def test_however_it_refuses_it_is_asked_once_and_then_read_from_now_on(
    at_rest, reading, asked, monkeypatch, path, refuse, reason
):
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.05)
    with refuse() as url, reading(url.replace("/path", path)) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: (None, reason) in reasons())
        wait_until(lambda: counters.connected_us)
    # Before a relay is read, it is asked what time it was at some of its numbers.
    assert asked == ([False] if path == RELAY_PATH else [True, False])
    assert counters.failures_in_a_row == 1
    assert Counter(reasons())[(None, reason)] == 1


def test_a_source_that_was_away_before_it_said_anything_is_still_not_asked_by_a_cursor(
    at_rest, reading, asked
):
    here = iter((False, True))

    def refuse(connection, request):
        if "cursor=" in request.path:
            return connection.respond(HTTPStatus.BAD_REQUEST, '{"error":"CursorTooOld"}')
        if not next(here):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "not now")
        return None

    with (
        serving(wait_closed, process_request=refuse) as url,
        reading(url.replace("/path", JETSTREAM_V1_PATH)) as running,
    ):
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.connected_us)
    assert asked == [True, False, False]
    assert counters.broken == {"CursorTooOld": 1, "http-503": 1}
    assert Counter(reasons())[HOLE] == 1


def test_when_it_was_away_in_between_it_is_asked_by_a_cursor_again(
    strict, alice, at_rest, reading, asked
):
    forget(strict, alice)
    with reading(strict.v2_url) as running:
        counters = hear_what_is_new(running, strict, alice)
        assert strict.stream.cut("reset") == 1
        wait_until(lambda: counters.connections == 2)
        alice.post("newer")
        wait_until(lambda: load_position().seq == strict.stream.last_seq)
    assert asked == [True, False, True]
    assert Counter(reasons())[HOLE] == 1
