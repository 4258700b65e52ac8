"""A Jetstream whose messages are 500 bytes and expand to 8 MB: all else goes on meanwhile."""

import asyncio
import json
import time
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import pytest
import zstandard

from server.core.setting_values import JETSTREAM_V1_PATH
from server.core.syntax import POST
from server.ingest import compression, start, subscriber
from server.ingest.frames import BINARY
from server.ingest.source import source_of
from server.storage import leases, repos
from server.storage.authors import author_ids
from server.storage.cursors import load_position
from server.storage.database import rows, value, write_transaction
from simnet import Network
from simnet.jetstream import message_v1
from tests.builders import NOW_US
from tests.ingest.asking import item_count, reasons
from tests.ingest.conftest import wait_until
from tests.ingest.test_frames import from_server
from tests.ingest.test_websocket import serving, wait_closed

PADDING = b" " * (compression.MAX_MESSAGE_BYTES - 10_000)
# Some 10 ms each: how many are taken in to the end, and how many of which most are left.
BOMBS, MANY = 60, 200
SOON_SECONDS = 1.0


@pytest.fixture
def net():
    with Network(seed=9, jetstreams=1) as network:
        yield network


@pytest.fixture
def dictionary(net, tmp_path):
    """The file that an operator would give us."""
    path = tmp_path / "dictionary"
    path.write_bytes(net.jetstreams[0].dictionary)
    return str(path)


def told_by(jetstream):
    """What it told so far: numbers, and messages of version 1."""
    log = jetstream.stream.log
    events = log.read(log.first_position, len(log))
    return [(event["seq"], message_v1(event)) for event in events if event["kind"] != "sync"]


@contextmanager
def bombing(messages, dictionary):
    """A Jetstream that sends all these at once, from the cursor that it is asked for."""
    with open(dictionary, "rb") as file:
        compressor = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(file.read()))
    frames = [
        (seq, from_server(BINARY, compressor.compress(text.encode() + PADDING)))
        for seq, text in messages
    ]

    def talk(connection):
        cursor = int(parse_qs(urlsplit(connection.request.path).query).get("cursor", "0")[0])
        with suppress(OSError):
            connection.socket.sendall(b"".join(frame for seq, frame in frames if seq >= cursor))
        wait_closed(connection)

    with serving(talk) as url:
        yield url.rpartition("/")[0] + JETSTREAM_V1_PATH


def rkeys():
    return {rkey for (rkey,) in rows("SELECT rkey FROM feed_items")}


def counters_of(running, url):
    return running.subscriber.counters[urlsplit(url).netloc + JETSTREAM_V1_PATH]


@pytest.mark.parametrize("stop", ["stopped", "not stopped"])
def test_rows_and_cursor_are_what_was_told_also_after_a_stop_in_the_midst(
    db, net, alice, tracked, reading, dictionary, monkeypatch, stop
):
    monkeypatch.setattr(start, "OVERLAP_MS", 0)
    (jetstream,) = net.jetstreams
    tracked(alice)
    for number in range(BOMBS):
        alice.post(f"{number}")
    told = [(seq, text) for seq, text in told_by(jetstream) if POST in text]
    last_seq = told[-1][0]
    options = {"jetstream_dictionary": dictionary}
    with bombing(told, dictionary) as url:
        if stop == "stopped":
            with reading(url, **options) as running:
                wait_until(lambda: counters_of(running, url).messages > 5)
                asked_s = time.monotonic()
            assert time.monotonic() - asked_s < SOON_SECONDS
            assert 0 < item_count() < BOMBS
            assert load_position().seq < last_seq
            # The cursor claims what is saved, and all of that.
            assert sum(seq <= load_position().seq for seq, _ in told) == item_count()
        with reading(url, **options):
            wait_until(lambda: (at := load_position()) and at.seq == last_seq)
    assert value("SELECT count(*) FROM feed_items") == len(rkeys()) == BOMBS
    assert reasons() == [(None, "no cursor")]


def test_the_source_beside_it_is_read_and_signs_of_life_are_given(
    sqlite, net, alice, bob, tracked, reading, dictionary, monkeypatch
):
    monkeypatch.setattr(subscriber, "REPORT_SECONDS", 0.05)
    (jetstream,) = net.jetstreams
    stranger = net.create_account("stranger")
    for number in range(MANY):
        stranger.post(f"{number}")
    told = told_by(jetstream)
    tracked(alice)
    with bombing(told, dictionary) as url:
        urls = f"{url}+{net.relay.url}"
        with reading(urls, jetstream_dictionary=dictionary) as running:
            counters = counters_of(running, url)
            wait_until(lambda: net.relay.stream.readers == 1 and counters.messages > 5)
            alive_us, before = leases.leader().alive_us, counters.messages
            with write_transaction():
                repos.track([author_ids([bob.did])[bob.did]], repos.ITEMS, NOW_US)
            version = value("SELECT value FROM counters")
            alice.post("beside it")
            wait_until(item_count)
            wait_until(lambda: leases.leader().confirmed_version >= version)
            wait_until(lambda: leases.leader().alive_us > alive_us)
            assert before < counters.messages < len(told)


def test_who_asks_what_time_it_was_gives_up_in_time(dictionary, monkeypatch):
    """Even if it is told anything but that."""
    expanded, expand = [], compression.Expander.expand

    def count(self, message):
        expanded.append(len(message))
        return expand(self, message)

    monkeypatch.setattr(compression.Expander, "expand", count)
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.2)
    timeless = json.dumps({"did": "", "time_us": 0, "kind": "nothing"})
    with bombing([(0, timeless)] * MANY, dictionary) as url:
        source = source_of(url, "Gapless/test", dictionary)
        assert asyncio.run(start.probe(source, "Gapless/test", None)) is None
    assert 0 < len(expanded) < MANY
