"""Jetstream 1 as it is: real messages, compressed by its own encoder with its own dictionary."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from atproto_jetstream.compression import ZstdDecompression

from server.core import setting_values
from server.core.errors import BadFrame, StreamBroken
from server.core.events import Account, Commit, Identity, Skipped
from server.core.setting_values import JETSTREAM_V1_PATH
from server.core.syntax import FOLLOW, POST, REPOST, int_to_tid
from server.ingest.compression import MAX_MESSAGE_BYTES, FileDictionary
from server.ingest.jetstream import decode_v1, decoder
from server.storage import repos
from server.storage.authors import author_ids
from server.storage.database import rows, write_transaction
from tests.builders import NOW_US
from tests.devnet.record import split
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import slow_v1
from tests.ingest.test_websocket import serving, wait_closed

FOLDER = Path(__file__).with_name("jetstream1")
DICTIONARY = FOLDER / "legacy_subscribe.zdict"
LINES = (FOLDER / "golden_v1.jsonl").read_bytes().splitlines()
FRAMES = split((FOLDER / "golden_v1.frames").read_bytes())
WANTS = {json.loads(line)["did"]: repos.ITEMS | repos.FOLLOWS for line in LINES}


@pytest.fixture(scope="module")
def file():
    return FileDictionary(setting_values.dictionary(str(DICTIONARY)))


def test_it_is_the_one_that_the_servers_name_in_their_messages(file):
    told = [zstandard.get_frame_parameters(frame) for frame in FRAMES]
    assert {one.dict_id for one in told} == {file.prepare().id} == {1612007021}
    sizes = [zstandard.frame_content_size(frame) for frame in FRAMES]
    # Some say how long they will be, and some do not.
    assert {size in (-1, len(line)) for size, line in zip(sizes, LINES, strict=True)} == {True}
    assert -1 in sizes
    assert max(sizes) > 0


def test_expanded_they_are_what_was_said_and_what_others_read(file):
    assert [file.expand(frame) for frame in FRAMES] == LINES
    content = zstandard.ZstdCompressionDict(DICTIONARY.read_bytes())
    plain = zstandard.ZstdDecompressor(dict_data=content)
    assert [plain.decompressobj().decompress(frame) for frame in FRAMES] == LINES
    of_sdk = ZstdDecompression(MAX_MESSAGE_BYTES)
    of_sdk.load(DICTIONARY.read_bytes())
    assert [of_sdk.decompress(frame) for frame in FRAMES] == LINES


def test_they_mean_the_same_compressed_or_not(file):
    events = [decoder(decode_v1, file)(frame, WANTS) for frame in FRAMES]
    assert events == [decode_v1(line, WANTS) for line in LINES]
    assert events == [slow_v1(line.decode(), WANTS) for line in LINES]
    said = [op.collection for event in events if isinstance(event, Commit) for op in event.ops]
    assert sorted(said) == [POST, REPOST, FOLLOW]
    assert {type(event) for event in events} == {Commit, Account, Identity, Skipped}
    assert not any(isinstance(event, Commit) and event.hole for event in events)


def test_strangers_are_passed_over(file):
    for frame in FRAMES:
        assert isinstance(decoder(decode_v1, file)(frame, {}), Skipped)


def test_a_byte_that_is_wrong_is_noticed(file):
    """Frames have a checksum, unless it is the head that is wrong and says that there is none."""
    for frame, line in zip(FRAMES, LINES, strict=True):
        for place in range(len(frame)):
            spoiled = frame[:place] + bytes((frame[place] ^ 0x10,)) + frame[place + 1 :]
            try:
                assert file.expand(spoiled) == line
            except (BadFrame, StreamBroken):
                continue


@contextmanager
def jetstream(asked):
    """Says what was recorded, compressed for whoever asks for that."""

    def talk(connection):
        asked.append(connection.request.path)
        for line, frame in zip(LINES, FRAMES, strict=True):
            connection.send(frame if "compress=true" in asked[-1] else line.decode())
        wait_closed(connection)

    with serving(talk) as url:
        yield url.replace("/path", JETSTREAM_V1_PATH)


def saved():
    """Whose records are saved, and their keys."""
    items = rows("SELECT a.did, i.rkey FROM feed_items i JOIN authors a ON a.id = i.author_id")
    follows = rows("SELECT a.did, f.rkey FROM follows f JOIN authors a ON a.id = f.viewer_id")
    return {(did, int_to_tid(rkey)) for did, rkey in (*items, *follows)}


def created():
    """What is to be saved."""
    for message in map(json.loads, LINES):
        op = message.get("commit", {})
        if op.get("collection") in (POST, REPOST, FOLLOW):
            yield message["did"], op["rkey"]


@pytest.mark.parametrize("options", [{}, {"jetstream_dictionary": str(DICTIONARY)}])
def test_read_from_a_server_the_same_is_saved(db, reading, options):
    asked = []
    with write_transaction():
        numbers = author_ids(WANTS)
        repos.track(numbers.values(), repos.ITEMS | repos.FOLLOWS, NOW_US)
    with jetstream(asked) as url, reading(url, **options) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.messages == len(LINES))
        wait_until(lambda: saved() == set(created()))
    assert ("compress=true" in asked[0]) == bool(options)
    assert (counters.bad_messages, counters.broken) == (0, {})
