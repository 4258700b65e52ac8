"""What the official PDS said, as a stream that is long enough to be measured.

A recording (tests/devnet/record.py) is some sixty frames of every kind, over in milliseconds. So it
is told lap after lap, of other people each time: DIDs and times are replaced by others of the same
length wherever they stand, then the CIDs of records by what they have become, and frames are
numbered on. All else is as it was written, so trees and signatures do not hold; neither reader
looks at those. What is rare in life (account changes, edits, commits of a dozen posts) is common.

`events` are the same as a Jetstream tells them that was asked for our collections.
"""

import re
from base64 import b32encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import libipld

from benchmarks.rig.corpus import FIRST_SEQ, Corpus, Event
from server.core.projection import WANTED_COLLECTIONS
from server.core.syntax import datetime_ms
from simnet.dag_cbor import Cid, encode
from tests.devnet.record import recorded

_CID_BYTES = 36

_DID = re.compile(rb"did:plc:[a-z2-7]{24}")
_TIME = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Between its key and the next one; a recording has at most 65,535.
_SEQ = re.compile(rb"cseq([\x00-\x17]|\x18.|\x19..)(?=d(?:time|repo)x)", re.DOTALL)


def load(count: int, *, with_frames: bool = True) -> Corpus:
    """The recording as so many frames, the last lap cut short."""
    told = recorded()
    people = {did for frame in told for did in _DID.findall(frame)}
    laps = -(-count // len(told))
    dids = {_other_did(did, lap).decode() for did in people for lap in range(laps)}
    frames = list(_frames(told, count, laps)) if with_frames else []
    start_ms = datetime_ms(_TIME.findall(_retold(told[0], 0, laps * _span(told)))[0].decode())
    assert start_ms is not None
    sizes = [len(list(_events([frame]))) for frame in told]
    all_events = sum(sizes[number % len(told)] for number in range(count))
    # A lap's end is in the last of its length; version 1 tells no #sync.
    tail = _events(_frames(told, count, laps, max(0, count - len(told))))
    last_us = max((event["seq"] for event in tail if event["kind"] != "sync"), default=0)
    # Their repos begin in the recording: no rev is known before.
    revs = dict.fromkeys(sorted(dids), "")
    return Corpus(count, frames, revs, all_events, last_us, start_us=start_ms * 1000)


def events(count: int) -> Iterator[Event]:
    """What happens in so many frames."""
    told = recorded()
    return _events(_frames(told, count, -(-count // len(told))))


def _events(frames: Iterable[bytes]) -> Iterator[Event]:
    """Each at a time of its own, in the order of the frames."""
    last_us = 0
    for frame in frames:
        head, body = libipld.decode_dag_cbor_multi(frame)
        at_us = (datetime_ms(body["time"]) or 0) * 1000
        for event in _ops(body) if head["t"] == "#commit" else [_other(head["t"], body)]:
            last_us = max(last_us + 1, at_us)
            yield {**event, "seq": last_us}


def _ops(body: dict[str, Any]) -> Iterator[Event]:
    blocks = dict(_blocks(body["blocks"]))
    for op in body["ops"]:
        collection, _, rkey = op["path"].partition("/")
        if collection not in WANTED_COLLECTIONS:
            continue
        event = {"kind": "commit", "did": body["repo"], "rev": body["rev"]}
        event |= {"operation": op["action"], "collection": collection, "rkey": rkey}
        if op["cid"] is not None:
            record = _in_json(libipld.decode_dag_cbor(blocks[op["cid"]]))
            event |= {"record": record, "cid": Cid(op["cid"]).text}
        yield event


def _other(kind: str, body: dict[str, Any]) -> Event:
    inner = {name: value for name, value in body.items() if name != "blocks"}
    return {"kind": kind[1:], "did": body["did"], "inner": inner}


def _in_json(value: Any) -> Any:
    """What a PDS writes has links, and no other bytes."""
    if isinstance(value, bytes):
        return {"$link": Cid(value).text}
    if isinstance(value, dict):
        return {name: _in_json(inner) for name, inner in value.items()}
    return [_in_json(inner) for inner in value] if isinstance(value, list) else value


def _frames(told: list[bytes], count: int, laps: int, first: int = 0) -> Iterator[bytes]:
    span = _span(told)
    for number in range(first, count):
        lap, place = divmod(number, len(told))
        # The last one as long ago as it is: what is dated in the future is put where we are now.
        frame = _retold(told[place], lap, (laps - lap) * span)
        yield _numbered(frame, FIRST_SEQ + number)


def _span(told: list[bytes]) -> timedelta:
    """How long a lap lasts, and a little more."""
    times = [_parsed(text) for frame in told for text in _TIME.findall(frame)]
    return max(times) - min(times) + timedelta(seconds=1)


def _retold(frame: bytes, lap: int, earlier: timedelta) -> bytes:
    frame = _DID.sub(lambda match: _other_did(match[0], lap), frame)
    frame = _TIME.sub(lambda match: _text(_parsed(match[0]) - earlier), frame)
    _, body = libipld.decode_dag_cbor_multi(frame)
    records = {op["cid"] for op in body.get("ops", ())}
    for cid, block in _blocks(body["blocks"]) if records else ():
        if cid in records:
            frame = frame.replace(cid, cid[:4] + sha256(block).digest())
    return frame


def _blocks(car: bytes) -> Iterator[tuple[bytes, bytes]]:
    """CID and bytes of each block of a CAR."""
    length, position = _varint(car, 0)
    # That was its header.
    position += length
    while position < len(car):
        length, position = _varint(car, position)
        yield car[position : position + _CID_BYTES], car[position + _CID_BYTES : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while data[position] & 128:
        number |= (data[position] & 127) << shift
        position, shift = position + 1, shift + 7
    return number | data[position] << shift, position + 1


@cache
def _other_did(did: bytes, lap: int) -> bytes:
    # Fifteen bytes are 24 letters.
    return b"did:plc:" + b32encode(sha256(did + lap.to_bytes(8)).digest()[:15]).lower()


def _numbered(frame: bytes, seq: int) -> bytes:
    before, _, after = _SEQ.split(frame, maxsplit=1)
    return before + b"cseq" + encode(seq) + after


def _parsed(text: bytes) -> datetime:
    return datetime.fromisoformat(text.decode()).astimezone(UTC)


def _text(moment: datetime) -> bytes:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z".encode()
