"""Messages of a Jetstream: equal to a slow decoder, sane where they are not, and small."""

import json

import libipld
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadFrame
from server.core.events import Account, Commit, Identity, Info, RecordOp, Skipped, Sync
from server.core.projection import project_op
from server.core.syntax import FOLLOW, POST, REPOST
from server.ingest.jetstream import decode_v1, decode_v2
from server.ingest.relay import SourceError
from server.storage.repos import FOLLOWS, ITEMS
from simnet.dag_cbor import encode, from_json
from tests.builders import NOW_MS, cid_text, did, iso, raw_cid, tid
from tests.fuzzing import fuzz
from tests.ingest.jetstream_messages import (
    NOW_US,
    V2,
    op,
    simnet_messages,
    slow_v1,
    slow_v2,
    v1,
    v2,
)

WANTS = {did("alice"): ITEMS}
BOTH = [(decode_v1, slow_v1, v1), (decode_v2, slow_v2, v2)]
VERSIONS = pytest.mark.parametrize(("fast", "slow", "make"), BOTH, ids=["v1", "v2"])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
plausible = st.sampled_from(
    [
        *("", "x", "delete", "update", POST, REPOST, FOLLOW, POST + "gate", tid(5), "a.b", ".."),
        *(cid_text(raw_cid(3)), cid_text(raw_cid(3)).upper(), "bafyreib", "deactivated"),
        *(iso(NOW_MS), iso(NOW_MS)[:23] + "999Z", "0001-01-01T00:00:00.000000Z", did("alice")),
        *(0, 1, -1, 2**62, 2**63, True, False, None, "commit", "info", f"{V2}info", f"{V2}sync"),
    ]
)


@pytest.fixture(scope="module")
def told():
    return simnet_messages()


def outcome(decode, message, wants):
    try:
        return decode(message, wants)
    except SourceError:
        return "the source's error"
    except BadFrame:
        return "bad frame"


def test_events_of_all_kinds_mean_what_the_slow_decoder_says(told):
    messages, dids = told
    for name, fast, slow in (("v1", decode_v1, slow_v1), ("v2", decode_v2, slow_v2)):
        kinds = set()
        for wants in ({}, dict.fromkeys(dids, ITEMS), dict.fromkeys(dids, ITEMS | FOLLOWS)):
            for message in messages[name]:
                event = fast(message, wants)
                assert event == slow(message, wants)
                kinds.add(type(event))
        sync = {Sync} if name == "v2" else set()
        assert kinds == {Commit, Account, Identity, Skipped} | sync


@pytest.mark.parametrize(("version", "decode"), [("v1", decode_v1), ("v2", decode_v2)])
def test_posts_reposts_and_follows_are_read_of_everybody_tracked(told, version, decode):
    messages, dids = told
    events = (decode(message, dict.fromkeys(dids, ITEMS)) for message in messages[version])
    ops = [op for event in events if isinstance(event, Commit) for op in event.ops]
    assert {op.collection for op in ops} == {POST, REPOST, FOLLOW}
    # Whom a deleted follow named is not known: it may have been a viewer.
    assert [op.record is None for op in ops if op.collection == FOLLOW] == [False, True]


@VERSIONS
@fuzz(133)
@given(data=st.data())
def test_whatever_stands_in_a_field_is_read_as_the_slow_decoder_does(fast, slow, make, data):
    kind = data.draw(st.sampled_from(("commit", "account", "identity", "sync", "other")))
    value = plausible | json_values
    inner = {"active": True, "status": None, "time": iso(NOW_MS), "did": did("alice")}
    body = op() if kind == "commit" else inner
    for field in data.draw(st.sets(st.sampled_from(sorted(body)), max_size=3)):
        body[field] = data.draw(value)
    dropped = data.draw(st.sets(st.sampled_from(sorted(body)), max_size=1))
    body = {key: one for key, one in body.items() if key not in dropped}
    names = ("did", "time_us", "kind") if make is v1 else ("did", "time", "$type", "seq")
    changes = {name: data.draw(value) for name in data.draw(st.sets(st.sampled_from(names)))}
    if make is v2 and kind != "commit":
        body = {kind: body}
    if make is v1 and data.draw(st.booleans()):
        body = data.draw(value | st.just(body))
    message = make(kind, body, **changes)
    wants = {did("alice"): data.draw(st.sampled_from((ITEMS, ITEMS | FOLLOWS)))}
    assert outcome(fast, message, wants) == outcome(slow, message, wants)


@VERSIONS
@fuzz(100)
@given(data=st.data())
def test_what_is_no_json_is_a_bad_frame_and_what_is_means_the_same(fast, slow, make, data):
    whole = make().encode()
    spot = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from((b'"', b"{", b"}", b"\\")))
    mutated = whole[:spot] + junk + whole[spot + data.draw(st.integers(0, 4)) :]
    text = mutated.decode("utf-8", "replace")
    is_doubled = len(set(_keys(text))) < len(_keys(text))
    result = outcome(fast, text, WANTS)
    if not is_doubled:
        # The JSON module takes a few things for JSON that are none.
        assert result in (outcome(slow, text, WANTS), "bad frame")
        if not _is_strict_json(text):
            assert result == "bad frame"


def _keys(text):
    found = []
    try:
        json.loads(text, object_pairs_hook=lambda pairs: found.extend(key for key, _ in pairs))
    except ValueError:
        return []
    return found


def _is_strict_json(text):
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


@VERSIONS
@pytest.mark.parametrize(
    "message", ["", "null", "[]", "1", "{", "[" * 5000, '{"did":1}', "\x00", '{"a":NaN}']
)
def test_what_says_nothing_of_an_account_is_a_bad_frame(fast, slow, make, message):
    with pytest.raises(BadFrame) as bad:
        fast(message, WANTS)
    # The reason goes into the ledger, and PostgreSQL takes no NUL.
    assert "\0" not in str(bad.value)


@VERSIONS
def test_an_op_has_its_record_its_cid_and_its_time_and_no_chain(fast, slow, make):
    event = fast(make(), WANTS)
    assert isinstance(event, Commit)
    assert (event.seq, event.time_ms, event.since) == (NOW_US, NOW_MS, -1)
    (read,) = event.ops
    assert (read.collection, read.rkey, read.cid) == (POST, tid(1), raw_cid(1))
    assert read.record["text"] == "hello"


@VERSIONS
@pytest.mark.parametrize(
    ("changes", "hole"),
    [
        ({"cid": ...}, "an op without a CID"),
        ({"cid": "bafkrei"}, "an op without a CID"),
        ({"operation": "move"}, "an op without a CID"),
        ({"record": ...}, "a record is missing"),
        ({"rkey": 5}, "an op without a path"),
    ],
)
def test_an_op_that_is_not_whole_is_a_hole_of_its_author(fast, slow, make, changes, hole):
    assert fast(make("commit", op(**changes)), WANTS).hole == hole


def test_an_error_of_version_2_says_why_the_source_will_not_go_on():
    frame = json.dumps({"$type": "error", "error": "ConsumerTooSlow", "message": "too far behind"})
    with pytest.raises(SourceError, match="ConsumerTooSlow: too far behind"):
        decode_v2(frame, WANTS)


def test_info_of_version_2_has_a_name():
    payload = {"$type": f"{V2}info", "name": "OutdatedCursor"}
    assert decode_v2(json.dumps({"$type": "message", "payload": payload}), {}) == Info(
        "OutdatedCursor"
    )


json_records = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=5)
    | st.sampled_from([{"$link": cid_text(raw_cid(7))}, {"$bytes": "AAEC"}, iso(NOW_MS)]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["uri", "cid", "$type", "media", "record", "parent"]), inner
        )
    ),
    max_leaves=5,
)


@fuzz(100)
@given(data=st.data())
def test_a_record_means_the_same_in_json_and_in_dag_cbor(data):
    collection = data.draw(st.sampled_from((POST, REPOST, FOLLOW)))
    ref = {"uri": f"at://{did('bob')}/{POST}/{tid(3)}", "cid": cid_text(raw_cid(3))}
    record = {
        "$type": collection,
        "createdAt": iso(NOW_MS),
        "text": "x",
        "reply": {"parent": ref, "root": ref},
        "embed": {"$type": "app.bsky.embed.recordWithMedia", "media": {"$type": "x"}},
        "subject": did("bob") if collection == FOLLOW else ref,
    }
    for field in data.draw(st.sets(st.sampled_from(sorted(record)), max_size=2)):
        record[field] = data.draw(json_records)
    cid = raw_cid(9)
    by_json = RecordOp(collection, tid(1), cid, json.loads(json.dumps(record)))
    cbor = libipld.decode_dag_cbor(encode(from_json(record)))
    by_cbor = RecordOp(collection, tid(1), cid, cbor)
    assert project_op(by_json, NOW_MS) == project_op(by_cbor, NOW_MS)
