"""read_stream over TLS: the same messages, and the same ends."""

import asyncio
import ssl

import pytest

from server.ingest import connection, turns, websocket
from server.ingest.websocket import read_stream
from tests.identity.certificates import make_certificate
from tests.ingest.test_websocket import Reader, broken, serving, wait_closed


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """What a server needs whom we believe over TLS, as localhost."""
    certificate, key = make_certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return context


def safely(url):
    return url.replace("ws://127.0.0.1", "wss://localhost")


def test_over_tls_messages_of_all_sizes_come_whole(tls):
    sent = [bytes([size % 251]) * size for size in range(1, 70_000, 997)]

    def talk(connection):
        for message in sent:
            connection.send(message)
        wait_closed(connection)

    reader = Reader(enough=len(sent))
    with serving(talk, ssl=tls) as url:
        read_stream(safely(url), "Gapless/test", reader)
    assert reader.told == sent


def test_over_tls_many_turns_change_nothing(tls, monkeypatch):
    """TLS keeps bytes of its own, and hands them over when it is asked to go on reading."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(websocket, "TICK_SECONDS", 0.001)
    sent = [b"%05d" % number + bytes(1000) for number in range(4000)]

    def talk(connection):
        for message in sent:
            connection.send(message)
        connection.close(1001, "bye")

    reader = Reader()
    with serving(talk, ssl=tls) as url:
        assert broken(safely(url), reader) == "closed by the server: 1001 GOING_AWAY bye"
    assert reader.told == sent


def test_over_tls_nothing_waits_in_a_socket_that_has_gone(tls):
    """As when a reset comes just while a quiet stream is looked at."""

    async def lose(url):
        lost = await connection.connect(url, "Gapless/test", Reader())
        lost.transport.abort()
        await lost.ended
        await websocket._sip(lost.transport)

    with serving(wait_closed, ssl=tls) as url:
        asyncio.run(lose(safely(url)))
