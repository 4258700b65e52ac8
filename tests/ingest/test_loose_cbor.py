"""Frames that a strict decoder refuses, though it is clear whose they are."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadFrame
from server.core.events import Account, Commit, Identity, Skipped, Sync
from server.ingest.loose_cbor import MAX_DEPTH, MAX_ITEMS, read_loosely
from server.ingest.relay import decode_frame
from server.storage.repos import ITEMS
from simnet.dag_cbor import Cid, encode
from simnet.frames import message
from simnet.repo import car
from tests.builders import NOW_MS, did, iso
from tests.fuzzing import fuzz
from tests.ingest.frames import commit_frame, create, record_block

ALICE = did("alice")
WANTS = {ALICE: ITEMS}
NO_TEXT, NO_LINK = b"\xff\xfe", b"\xd8\x2a\x58\x84\x00\x01\x71\x12\x7f" + b"a" * 127


def torn(kind, **fields):
    """A frame about alice in which each X is no text."""
    frame = message(kind, {"seq": 7, "did": ALICE, "time": iso(NOW_MS), **fields})
    assert frame.count(b"XX") == 1
    return frame.replace(b"XX", NO_TEXT)


@pytest.mark.parametrize("wants", [WANTS, {}])
@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (torn("#identity", handle="XX"), Identity(7, NOW_MS, ALICE)),
        (torn("#identity", time="XX"), Identity(7, 0, ALICE)),
        (
            torn("#account", active=False, status="XX"),
            Account(7, NOW_MS, ALICE, False, "unknown"),
        ),
    ],
)
def test_what_any_pds_may_write_is_about_one_account_and_nobody_else(frame, event, wants):
    expected = event if wants else Skipped(7, event.time_ms)
    assert decode_frame(frame, wants) == expected


def test_a_commit_with_a_strange_link_is_read():
    sound = commit_frame()
    frame = sound.replace(b"eblobs\x80", b"eblobs\x81" + NO_LINK)
    assert frame != sound
    read = decode_frame(frame, WANTS)
    assert isinstance(read, Commit)
    assert read == decode_frame(sound, WANTS)
    assert decode_frame(frame, {}) == Skipped(7, NOW_MS)


def test_a_commit_of_more_ops_than_are_allowed_is_nobody_elses_hole():
    cid, _ = record_block()
    ops = [create(cid) | {"prev": cid}] * 8192
    frame = commit_frame(ops=ops, rev="XX").replace(b"crevbXX", b"crevb" + NO_TEXT)
    assert decode_frame(frame, WANTS) == Sync(7, NOW_MS, ALICE)
    assert decode_frame(frame, {}) == Skipped(7, NOW_MS)


def record_in(block):
    """What is read of alice's post with this block."""
    cid = Cid.of(block)
    event = decode_frame(commit_frame(blocks=car(cid, {cid: block}), ops=[create(cid)]), WANTS)
    assert event.hole is None
    return event.ops[0].record


def test_a_post_is_read_as_the_appview_reads_it_also_where_its_pds_writes_it_otherwise():
    sound = record_block("XX")[1]
    expected = record_in(sound)
    assert expected["text"] == "XX"
    text = encode("text") + encode("XX")
    assert record_in(b"\xa3" + sound[1:].replace(text, b"") + text) == expected
    torn = record_in(sound.replace(b"XX", NO_TEXT))
    assert torn == expected | {"text": "\ufffd\ufffd"}


@pytest.mark.parametrize(("kind", "least", "key"), [(b"\x9a", 1, b""), (b"\xba", 2, b"\x61a")])
def test_a_record_that_claims_to_be_long_again_and_again_is_told_at_once(kind, least, key):
    size, block = 1_900_000, b""
    for _ in range(900):
        block += kind + ((size - len(block) - 5) // least).to_bytes(4) + key
    began_s = time.thread_time()
    assert record_in(block + b"\0" * (size - len(block))) is None
    assert time.thread_time() - began_s < 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        b"\x9b" + b"\xff" * 8,
        b"\xbf\xff",
        b"\x81" * MAX_DEPTH + b"\x00",
        b"\x9a" + (MAX_ITEMS).to_bytes(4) + b"\x00" * MAX_ITEMS,
        b"\x7a\x7f\xff\xff\xff",
        b"\xa2" + b"drepox\x20" + ALICE.encode() + b"drepox\x20" + did("bob").encode(),
        # As text, it would be twice as long with each map that it is a key of.
        b"\xa1" * 9 + b"\x61\\" + b"\x00" * 9,
        b"\xa1\x01\x02",
    ],
)
def test_what_nobody_can_tell_is_refused(data):
    reasons = r"too much|is missing|without a length|more than one|no text, or stands twice"
    with pytest.raises(ValueError, match=reasons):
        read_loosely(data)
    with pytest.raises(BadFrame):
        decode_frame(b"\xa2atg#commitbop\x01" + data, WANTS)


KEYS = st.text(st.characters(codec="utf-8"), max_size=5)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=9) | KEYS


@fuzz(300)
@given(
    st.recursive(PLAIN, lambda c: st.lists(c, max_size=4) | st.dictionaries(KEYS, c), max_leaves=9)
)
def test_what_is_sound_means_the_same(value):
    assert read_loosely(encode(value)) == value


@fuzz(300)
@given(st.binary(max_size=60))
def test_noise_is_read_or_refused(data):
    with suppress(ValueError):
        read_loosely(data)
