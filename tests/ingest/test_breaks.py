"""Whatever keeps a source from being read: one word in the log and the counters, and a retry."""

import logging
import socket
import ssl
import time
from contextlib import contextmanager
from http import HTTPStatus

import pytest

from server.core.errors import StreamBroken
from server.ingest import breaks, start, subscriber, websocket, writer
from server.ingest.breaks import LONGEST_WISH_SECONDS, wish_s
from server.ingest.websocket import read_stream
from simnet.frames import error
from tests.identity.certificates import make_certificate
from tests.ingest.asking import item_count, reasons, wait_for_all
from tests.ingest.conftest import wait_until
from tests.ingest.test_websocket import Reader, serving, wait_closed

PATH = "/xrpc/com.atproto.sync.subscribeRepos"


@contextmanager
def refusing(status, **headers):
    """A server that answers every handshake with this status."""

    def refuse(connection, request):
        answer = connection.respond(status, "not now")
        for name, value in headers.items():
            answer.headers[name] = value
        return answer

    with serving(wait_closed, process_request=refuse) as url:
        yield url


@contextmanager
def unknown_name():
    with pytest.MonkeyPatch.context() as patch:

        def fail(*args, **more):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        patch.setattr(socket, "getaddrinfo", fail)
        yield "ws://relay.example.com"


@contextmanager
def strange_certificate(folder):
    certificate, key = make_certificate(folder, "relay.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(wait_closed, ssl=context) as url:
        yield url.replace("ws://127.0.0.1", "wss://localhost")


@contextmanager
def nobody():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"ws://127.0.0.1:{port}"


@contextmanager
def deaf():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"


def too_slow(connection):
    connection.send(error("ConsumerTooSlow", "too far behind"))
    wait_closed(connection)


TROUBLES = {
    "dns": lambda folder: unknown_name(),
    "tls": strange_certificate,
    "refused": lambda folder: nobody(),
    "timeout": lambda folder: deaf(),
    "http-429": lambda folder: refusing(HTTPStatus.TOO_MANY_REQUESTS),
    "http-500": lambda folder: refusing(HTTPStatus.INTERNAL_SERVER_ERROR),
    "http-503": lambda folder: refusing(HTTPStatus.SERVICE_UNAVAILABLE),
    "ConsumerTooSlow": lambda folder: serving(too_slow),
    "closed": lambda folder: serving(lambda connection: connection.close(1001)),
    "cut": lambda folder: serving(lambda connection: connection.socket.shutdown(socket.SHUT_RDWR)),
    "silent": lambda folder: serving(wait_closed),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_every_trouble_has_its_word_in_the_log_and_the_counters_and_is_tried_again(
    sqlite, reading, monkeypatch, tmp_path, caplog, kind
):
    monkeypatch.setattr(websocket, "HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr(websocket, "SILENCE_SECONDS", 0.2)
    caplog.set_level(logging.WARNING, logger=subscriber.__name__)
    with TROUBLES[kind](tmp_path) as url:
        host, _, _ = url.partition("/path")
        with reading(host + PATH) as running:
            (counters,) = running.subscriber.counters.values()
            wait_until(lambda: counters.failures_in_a_row >= 2)
    assert set(counters.broken) == {kind}
    ours = subscriber.__name__
    lines = [record.getMessage() for record in caplog.records if record.name == ours]
    assert lines[0].startswith(
        f"stream broken source={host.partition('//')[2]} kind={kind} retry_s="
    )


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


@pytest.mark.usefixtures("db")
def test_a_slow_database_slows_reading_and_loses_nothing(net, alice, at_rest, reading, monkeypatch):
    commit_batch, taken = writer.commit_batch, []

    def slow(batch, *args, **more):
        time.sleep(0.05)
        taken.append(len(batch.commits))
        return commit_batch(batch, *args, **more)

    monkeypatch.setattr(writer, "commit_batch", slow)
    monkeypatch.setattr(writer, "BATCH_CHANGES", 20)
    for number in range(300):
        alice.post(str(number))
    with reading(net.relay.url) as running:
        wait_for_all(net)
        (counters,) = running.subscriber.counters.values()
        assert counters.broken == {}
    assert (item_count(), reasons()) == (300, [])
    assert max(taken) <= 20


def test_probes_count_as_no_connection(sqlite, net, reading, monkeypatch):
    """What only asks what time it is leaves no mark in the cursors."""
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    with reading("ws://127.0.0.1:9" + PATH, net.relay.url) as running:
        wait_until(lambda: net.relay.stream.readers == 1)
        wait_until(lambda: any(one.connections for one in running.subscriber.counters.values()))
    assert [one.connections for one in running.subscriber.counters.values()] == [0, 1]
