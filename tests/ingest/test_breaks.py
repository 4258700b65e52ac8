"""Whatever keeps a source from being read: one word in the log and the counters, and a retry."""

import logging
import socket
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.core.errors import StreamBroken
from server.core.setting_values import JETSTREAM_V1_PATH, JETSTREAM_V2_PATH, RELAY_PATH
from server.ingest import breaks, compression, connection, dialling, start, subscriber, websocket
from server.ingest.breaks import KINDS, LONGEST_WISH_SECONDS, wish_s
from server.ingest.websocket import read_stream
from tests.ingest.conftest import wait_until
from tests.ingest.test_websocket import Reader, serving, wait_closed
from tests.ingest.troubles import (
    TROUBLES,
    UNSAID_BY_V1,
    hanging_resolver,
    refusing,
    resolver,
    strange_certificate,
    swallowing,
)

PATH = RELAY_PATH
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
PATHS = {"relay": RELAY_PATH, "v1": JETSTREAM_V1_PATH, "v2": JETSTREAM_V2_PATH}


# What is waited for, 15 s and longer in life. Elsewhere a busy machine has the time that it needs.
_DIALLED = [(dialling, "DIAL_SECONDS", 0.2)]
_SHAKEN = [(connection, "HANDSHAKE_SECONDS", 0.2)]
WAITED_FOR = {
    "the resolver hangs": _DIALLED,
    "packets are swallowed": _DIALLED,
    "nobody answers the handshake": _SHAKEN,
    "nobody answers the TLS handshake": _SHAKEN,
    "nobody is there any more": [
        (websocket, "PING_IDLE_SECONDS", 0.1),
        (websocket, "PING_REPLY_SECONDS", 0.1),
    ],
    "it says nothing": [(websocket, "SILENCE_SECONDS", 0.2)],
}


@pytest.fixture
def impatient(monkeypatch):
    """Waits as long as it takes for one trouble."""

    def wait_for(trouble):
        monkeypatch.setattr(compression, "DOWNLOAD_SECONDS", 0.1)
        for module, name, seconds in WAITED_FOR.get(trouble, ()):
            monkeypatch.setattr(module, name, seconds)

    return wait_for


@pytest.mark.parametrize(
    ("trouble", "path"),
    [
        pytest.param(trouble, path, id=f"{trouble}, {kind}")
        for trouble in TROUBLES
        for kind, path in PATHS.items()
        if kind != "v1" or trouble not in UNSAID_BY_V1
    ],
)
def test_every_trouble_has_its_word_in_log_counters_and_metrics_and_is_tried_again(
    sqlite, reading, impatient, tmp_path, caplog, trouble, path
):
    caplog.set_level(logging.WARNING, logger=subscriber.__name__)
    impatient(trouble)
    kind, make, words = TROUBLES[trouble]
    server = make(tmp_path) if make is strange_certificate else make()
    with server as url, reading(url.removesuffix("/path") + path) as running:
        ((source, counters),) = running.subscriber.counters.items()
        wait_until(lambda: counters.failures_in_a_row >= 2)
    assert set(counters.broken) == {kind}
    assert kind in KINDS
    counted = running.subscriber.metrics.registry.get_sample_value(
        "gapless_stream_breaks_total", {"source": source, "kind": kind}
    )
    assert counted == counters.broken[kind]
    ours = subscriber.__name__
    lines = [record.getMessage() for record in caplog.records if record.name == ours]
    assert lines[0].startswith(f"stream broken source={source} kind={kind} retry_s=")
    assert words in lines[0]
    assert lines[0].isprintable()
    assert len(lines[0]) < 500


def test_every_word_has_its_trouble_and_its_row_in_the_papers():
    met = {kind for kind, _, _ in TROUBLES.values()}
    # What a status is has no code of its own. A cursor comes first: test_refused_cursors.py.
    assert {kind for kind in KINDS - met if not kind.startswith("http-")} == {"CursorTooOld"}
    papers = OPERATING.read_text()
    for kind in KINDS:
        row = "http-…" if kind.startswith("http-") and kind != "http-429" else kind
        assert f"\n| `{row}` | " in papers, kind


def test_a_dictionary_whose_server_is_not_found_holds_nobody_up(sqlite, reading, impatient):
    impatient("the resolver hangs")
    with hanging_resolver() as url, reading(url + JETSTREAM_V2_PATH) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.broken == {"dns": 1})


def test_a_redirect_is_followed():
    def talk(connection):
        connection.send(b"here")
        wait_closed(connection)

    reader = Reader(enough=1)
    with serving(talk) as there, refusing(HTTPStatus.FOUND, Location=there) as url:
        read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"here"]


def test_an_address_that_swallows_packets_does_not_eat_the_time_of_the_next(monkeypatch):
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 1.0)

    def talk(connection):
        connection.send(b"here")
        wait_closed(connection)

    reader = Reader(enough=1)
    with serving(talk) as there, swallowing() as dead:
        addresses = [("127.0.0.1", urlsplit(url).port) for url in (dead, there)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in addresses]
        with resolver(lambda *args, **more: found) as url:
            read_stream(url, "Gapless/test", reader)
    assert reader.told == [b"here"]


@pytest.mark.parametrize(
    ("asked", "heeded"),
    [("7", 7.0), ("99999", LONGEST_WISH_SECONDS), ("-1", 0.0), ("soon", 0.0), ("٣", 0.0)],
)
def test_a_server_that_asks_us_to_stay_away_is_heeded_up_to_a_bound(asked, heeded):
    headers = {} if not asked.isascii() else {"Retry-After": asked}
    with (
        refusing(HTTPStatus.TOO_MANY_REQUESTS, **headers) as url,
        pytest.raises(StreamBroken) as caught,
    ):
        read_stream(url, "Gapless/test", Reader())
    assert wish_s(caught.value) == heeded


def test_a_wish_to_stay_away_is_waited_for(sqlite, reading, monkeypatch):
    monkeypatch.setattr(breaks, "LONGEST_WISH_SECONDS", 0.4)
    with refusing(HTTPStatus.TOO_MANY_REQUESTS, **{"Retry-After": "9"}) as url:
        began = time.monotonic()
        with reading(url.replace("/path", PATH)) as running:
            (counters,) = running.subscriber.counters.values()
            wait_until(lambda: counters.failures_in_a_row == 3)
        assert time.monotonic() - began >= 0.8


def test_a_delay_grows_until_a_connection_has_held(sqlite, net, reading, monkeypatch):
    delays = []

    def spy(attempt, *bounds):
        delays.append(attempt)
        return 0.01

    monkeypatch.setattr(subscriber, "delay_s", spy)
    monkeypatch.setattr(subscriber, "HEALTHY_SECONDS", 0.3)
    net.faults.arm("http-503-html", times=3, where={"host": "relay"})
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        # The relay may come to know of a connection a moment after we do.
        wait_until(lambda: net.relay.stream.cut("reset") == 1)
        wait_until(lambda: len(delays) == 4)
        wait_until(lambda: counters.connections == 2)
        net.create_account("somebody")
        wait_until(lambda: counters.messages)
        time_held = time.monotonic() + 0.4
        wait_until(lambda: time.monotonic() > time_held)
        net.relay.stream.cut("reset")
        wait_until(lambda: len(delays) == 5)
    assert delays == [0, 1, 2, 3, 0]


def test_probes_count_as_no_connection(sqlite, net, reading, monkeypatch):
    """What only asks what time it is leaves no mark in the cursors."""
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    with reading("ws://127.0.0.1:9" + PATH, net.relay.url) as running:
        wait_until(lambda: net.relay.stream.readers == 1)
        wait_until(lambda: any(one.connections for one in running.subscriber.counters.values()))
    assert [one.connections for one in running.subscriber.counters.values()] == [0, 1]
