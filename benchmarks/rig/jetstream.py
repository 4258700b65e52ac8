"""Events as a Jetstream tells them, and the dictionary that its messages are compressed with.

A window of the corpus has too few events for a reader this fast, so it may be told lap after lap.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import zstandard

from benchmarks.rig import corpus
from server.core.setting_values import JETSTREAM_V1_PATH, JETSTREAM_V2_PATH, RELAY_PATH
from server.core.syntax import int_to_tid, is_tid, tid_to_int
from simnet.dag_cbor import Cid
from simnet.jetstream import message_v1, message_v2

KINDS = ("relay", "v1", "v1 zstd", "v2", "v2 zstd")
# As large as the published ones; trained on the corpus' own beginning.
DICTIONARY_BYTES = 110_000
SAMPLES = 5_000
_DICTIONARY_ID = 4711


def path_of(kind: str) -> str:
    """Where a source of a kind is read."""
    if kind == "relay":
        return RELAY_PATH
    return JETSTREAM_V1_PATH if kind.startswith("v1") else JETSTREAM_V2_PATH


def messages(events: Iterable[corpus.Event], kind: str, dictionary: Path | None) -> list[bytes]:
    """The payloads in their order: JSON, or each compressed by itself."""
    texts = list(_texts(events, kind))
    if dictionary is None:
        return texts
    data = zstandard.ZstdCompressionDict(dictionary.read_bytes())
    compressor = zstandard.ZstdCompressor(dict_data=data)
    return [compressor.compress(text) for text in texts]


def in_laps(count: int, laps: int) -> Iterator[corpus.Event]:
    """What happens in a corpus of so many frames, again and again."""
    events = corpus.events(count)
    for lap in range(laps):
        for event in events:
            yield _later(event, lap, _span_us(count)) if lap else event


def last_us(made: corpus.Corpus, laps: int) -> int:
    """The time of the last event."""
    return made.last_us + (laps - 1) * _span_us(made.count)


def dictionary_of(count: int, kind: str) -> Path | None:
    """The file with what a kind of source compresses with, trained on a corpus of so many frames.

    None: it does not compress.
    """
    version, _, way = kind.partition(" ")
    if way != "zstd":
        return None
    path = corpus.folder_of(count) / f"dictionary-{version}"
    if not path.exists():
        samples: list[bytes | bytearray | memoryview]
        samples = list(islice(_texts(corpus.events(count), version), SAMPLES))
        data = zstandard.train_dictionary(DICTIONARY_BYTES, samples, dict_id=_DICTIONARY_ID)
        path.write_bytes(data.as_bytes())
    return path


def _texts(events: Iterable[corpus.Event], kind: str) -> Iterator[bytes]:
    render: Callable[[corpus.Event], str | None]
    render = message_v1 if kind.startswith("v1") else message_v2
    for event in events:
        text = render(event)
        if text is not None:
            yield text.encode()


def _span_us(count: int) -> int:
    """More than a window of so many frames lasts."""
    return count * 4_000


def _later(event: corpus.Event, lap: int, span_us: int) -> corpus.Event:
    """The same people do the same once more: other records, at a later time."""
    later_us = lap * span_us
    moved = {**event, "seq": event["seq"] + later_us}
    for name in ("rev", "rkey"):
        if is_tid(event.get(name, "")):
            moved[name] = int_to_tid(tid_to_int(event[name]) + (later_us << 10))
    if "cid" in event:
        digest = sha256(f"{event['cid']}{lap}".encode()).digest()
        moved["cid"] = Cid(b"\x01\x71\x12\x20" + digest).text
    return moved
