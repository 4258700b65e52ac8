"""What is passed over among many messages of a Jetstream: strangers' in the usual form, no more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadFrame
from server.core.events import Skipped, Sync
from server.ingest.jetstream import decode_v1, decode_v2
from server.ingest.jetstream_head import without_strangers
from server.storage.repos import ITEMS
from tests.builders import NOW_MS, did
from tests.fuzzing import fuzz
from tests.ingest.jetstream_messages import NOW_US, V2, simnet_messages, v1, v2
from tests.ingest.sifting import is_passed_over

STRANGER, TRACKED = did("alice"), did("bob")
WANTS = {TRACKED: ITEMS}
VERSIONS = pytest.mark.parametrize(("decode", "make"), [(decode_v1, v1), (decode_v2, v2)])


def compact(text):
    """As servers write it."""
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def assert_right(decode, message, wants):
    """Passed over is what the decoder says is about nobody of ours, if it can read it at all."""
    is_over = bool(message) and is_passed_over(without_strangers, message, wants)
    if is_over:
        try:
            told = decode(message, wants)
        except BadFrame:
            return True
        assert isinstance(told, Skipped)
    return is_over


def test_all_that_a_network_says_of_strangers_is_passed_over_and_nothing_else():
    messages, dids = simnet_messages()
    for name, decode in (("v1", decode_v1), ("v2", decode_v2)):
        said = [message.encode() for message in messages[name]]
        kinds = [kind for kind in (b"info", b"error") if name == "v2"]
        about = [one for one in said if not any(V2.encode() + kind in one for kind in kinds)]
        assert all(assert_right(decode, one, {}) for one in about)
        for wants in (dict.fromkeys(dids, ITEMS), dict.fromkeys(dids[::2], ITEMS)):
            over = [one for one in said if assert_right(decode, one, wants)]
            assert len(over) < len(said)
            if len(wants) == len(dids):
                assert over == []


@VERSIONS
def test_whose_it_is_decides(decode, make):
    assert assert_right(decode, compact(make()), WANTS)
    assert not assert_right(decode, compact(make(did=TRACKED)), WANTS)


@VERSIONS
def test_an_unusual_form_is_left_to_the_decoder(decode, make):
    usual = compact(make())
    for message in (make().encode(), b" " + usual, usual.replace(b"did:plc:", b"did:web:")):
        assert not assert_right(decode, message, WANTS)


@VERSIONS
@pytest.mark.parametrize(
    "author", [STRANGER, "did:web:odd.test%3A8080", f"did:web:{'long.' * 49}test"]
)
def test_a_record_nested_deeper_than_we_read_is_a_hole_of_its_author_and_of_nobody_else(
    decode, make, author
):
    deep = compact(make(did=author)).replace(b'"hello"', b"[" * 5000 + b"]" * 5000)
    for message in (deep, deep.decode()):
        assert decode(message, {author: ITEMS}) == Sync(NOW_US, NOW_MS, author)
        assert decode(message, WANTS) == Skipped(NOW_US, NOW_MS)
    with pytest.raises(BadFrame):
        decode(deep.replace(author.encode(), b"did:"), WANTS)


@pytest.mark.parametrize("author", [STRANGER, "did:web:odd.test"])
def test_what_time_it_was_is_not_for_the_author_to_say(author):
    said = compact(v2(did=author, time=...)).replace(b'"hello"', b"[" * 5000 + b"]" * 5000)
    said = said.replace(b'"record":{', b'"record":{"time":"2126-01-01T00:00:00.000000Z",')
    assert decode_v2(said, WANTS) == Skipped(0, 0)


def test_a_word_of_the_source_itself_is_kept():
    for kind in ("info", "unheard-of"):
        assert not assert_right(decode_v2, compact(v2(kind)), WANTS)
    error = b'{"$type":"error","error":"ConsumerTooSlow","message":"x"}'
    assert not is_passed_over(without_strangers, error, WANTS)


@fuzz(300)
@given(data=st.data(), named=st.sampled_from((STRANGER, TRACKED)))
@VERSIONS
def test_mutated_messages_are_never_taken_for_a_strangers(decode, make, data, named):
    message = compact(make(did=named))
    spot = data.draw(st.integers(0, 120)) % len(message)
    junk = data.draw(st.one_of(st.binary(max_size=5), st.sampled_from((b'"', b"\\", b"{", b","))))
    length = data.draw(st.integers(0, 9))
    assert_right(decode, message[:spot] + junk + message[spot + length :], WANTS)
