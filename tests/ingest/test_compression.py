"""What a Jetstream compresses is read as what it was, or refused; never more than a bound of it."""

import asyncio
import threading
from contextlib import suppress

import pytest
import zstandard

from server.core.errors import BadFrame, StreamBroken
from server.ingest import dialling
from server.ingest.compression import DownloadedDictionary, FileDictionary, renew
from server.ingest.jetstream import decode_v1, decode_v2, decoder
from server.ingest.relay import SourceError
from server.storage.repos import ITEMS
from simnet import Network
from tests.builders import did
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import v1
from tests.ingest.troubles import accepting

WANTS = {did("alice"): ITEMS}


@pytest.fixture(scope="module")
def served():
    with Network(seed=2, jetstreams=1) as net:
        yield net.jetstreams[0]


def test_a_compressed_message_means_the_same(served, tmp_path):
    (tmp_path / "dictionary").write_bytes(served.dictionary)
    file = FileDictionary(str(tmp_path / "dictionary"))
    data = zstandard.ZstdCompressionDict(served.dictionary)
    pressed = zstandard.ZstdCompressor(dict_data=data).compress(v1().encode())
    assert file.query() == [("compress", "true")]
    assert decoder(decode_v1, file)(pressed, WANTS) == decode_v1(v1(), WANTS)
    assert decoder(decode_v1, file)(v1(), WANTS) == decode_v1(v1(), WANTS)


def test_the_dictionary_of_version_2_is_downloaded_and_asked_for_by_its_number(served):
    downloaded = DownloadedDictionary(served.v2_url, "Gapless/test")
    assert downloaded.query() == []
    expander = downloaded.prepare()
    assert downloaded.query() == []
    downloaded.use(expander)
    assert downloaded.query() == [("zstdDictionary", "77")]


@pytest.mark.parametrize(
    "fault", ["http-500", "http-drop", "http-garbage", "http-cut-body", "http-huge"]
)
def test_a_source_that_gives_no_dictionary_is_read_without(fault):
    with Network(seed=2, jetstreams=1) as net:
        net.faults.arm(fault, where={"host": "jetstream0"})
        downloaded = DownloadedDictionary(net.jetstreams[0].v2_url, "Gapless/test")
        assert downloaded.prepare() is None
        assert net.faults.fired[fault] == 1


def test_a_dictionary_that_never_ends_costs_one_thread(monkeypatch):
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.2)
    is_over, before = threading.Event(), set(threading.enumerate())

    def asking():
        return [one.name for one in set(threading.enumerate()) - before].count("aside")

    def drip(connection):
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not is_over.wait(0.05):
                connection.sendall(b"x")

    with accepting(drip) as url:
        downloaded = DownloadedDictionary(url, "Gapless/test")
        try:
            for _ in range(3):
                asyncio.run(renew(downloaded))
                assert downloaded.query() == []
            wait_until(lambda: asking() == 1)
        finally:
            is_over.set()


def test_a_message_that_needs_another_dictionary_ends_the_connection(served, tmp_path):
    samples = [f"{{{number}: {number * 7919}}}".encode() * 9 for number in range(2000)]
    other = zstandard.train_dictionary(1024, samples, dict_id=78)
    (tmp_path / "dictionary").write_bytes(served.dictionary)
    decode = decoder(decode_v1, FileDictionary(str(tmp_path / "dictionary")))
    pressed = zstandard.ZstdCompressor(dict_data=other).compress(v1().encode())
    with pytest.raises(StreamBroken, match="with dictionary 78, and ours is 77"):
        decode(pressed, WANTS)


def test_what_cannot_be_expanded_is_a_bad_frame(served, tmp_path):
    (tmp_path / "dictionary").write_bytes(served.dictionary)
    decode = decoder(decode_v1, FileDictionary(str(tmp_path / "dictionary")))
    bomb = zstandard.ZstdCompressor().compress(b" " * 9_000_000)
    for message in (b"", b"no zstd", bomb, bomb[:50], zstandard.ZstdCompressor().compress(b"{")):
        with pytest.raises(BadFrame):
            decode(message, WANTS)


@pytest.mark.parametrize("dictionary", [None, DownloadedDictionary("ws://127.0.0.1", "x")])
def test_messages_that_nobody_asked_to_be_compressed_end_the_connection(dictionary):
    with pytest.raises(StreamBroken, match="we asked for no"):
        decoder(decode_v2, dictionary)(b"{}", WANTS)


def test_an_error_may_be_compressed_as_well(served):
    downloaded = DownloadedDictionary(served.v2_url, "Gapless/test")
    downloaded.use(downloaded.prepare())
    data = zstandard.ZstdCompressionDict(served.dictionary)
    told = b'{"$type":"error","error":"ConsumerTooSlow","message":"reconnect with cursor=42"}'
    with pytest.raises(SourceError, match="ConsumerTooSlow: reconnect") as caught:
        decoder(decode_v2, downloaded)(zstandard.ZstdCompressor(dict_data=data).compress(told), {})
    assert caught.value.name == "ConsumerTooSlow"
