"""decode_frame: equal to a slow decoder where a frame is sound, and sane where it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadFrame
from server.core.events import Account, Commit, Info, Skipped, Sync
from server.core.syntax import tid_to_int
from server.ingest.relay import SourceError, decode_frame
from server.storage.repos import FOLLOWS, ITEMS
from simnet.dag_cbor import Cid, encode
from simnet.frames import STRANGE, error, message
from simnet.repo import car
from tests.builders import NOW_MS, did, iso, tid
from tests.fuzzing import fuzz
from tests.ingest.frames import (
    LIKE,
    POST,
    REPOST,
    commit_body,
    commit_frame,
    create,
    record_block,
    simnet_frames,
    slow_decode,
)

ALICE = did("alice")
WANTS = {ALICE: ITEMS}
HEADER = encode({"t": "#commit", "op": 1})


@pytest.fixture(scope="module")
def told():
    return simnet_frames()


def test_frames_of_all_kinds_mean_what_the_official_sdk_says(told):
    frames, dids = told
    kinds = set()
    for wants in ({}, dict.fromkeys(dids, ITEMS), dict.fromkeys(dids, ITEMS | FOLLOWS)):
        for frame in frames:
            event = decode_frame(frame, wants)
            assert event == slow_decode(frame, wants)
            kinds.add(type(event).__name__)
    assert kinds == {"Commit", "Sync", "Account", "Identity", "Skipped"}


def test_posts_reposts_and_follows_are_read_of_everybody_tracked(told):
    frames, dids = told
    events = (decode_frame(frame, dict.fromkeys(dids, ITEMS)) for frame in frames)
    read = {op.collection for event in events if isinstance(event, Commit) for op in event.ops}
    assert read == {POST, REPOST, "app.bsky.graph.follow"}


def test_a_commit_carries_its_record_and_its_place():
    cid, _ = record_block()
    event = decode_frame(commit_frame(), WANTS)
    assert isinstance(event, Commit)
    assert (event.seq, event.time_ms, event.hole) == (7, NOW_MS, None)
    assert (event.rev, event.since) == (tid_to_int(tid(2)), tid_to_int(tid(1)))
    (op,) = event.ops
    assert (op.collection, op.rkey, op.cid) == (POST, "3jzfcijpj2z2a", bytes(cid))
    assert op.record["text"] == "hello"


@pytest.mark.parametrize(
    "header", [encode({"t": "#commit", "op": 1, "later": None}), b"\xa2atg#commitbop\x18\x01"]
)
def test_a_header_with_more_in_it_or_in_longer_words_is_read_too(header):
    event = decode_frame(header + encode(commit_body()), WANTS)
    assert isinstance(event, Commit)
    assert len(event.ops) == 1


@pytest.mark.parametrize("header", [b"\xa2bop\x01atg#commit", b"\xbfatg#commitbop\x01\xff"])
def test_a_header_that_is_no_dag_cbor_is_a_bad_frame(header):
    with pytest.raises(BadFrame):
        decode_frame(header + encode(commit_body()), WANTS)


@pytest.mark.parametrize("name", ["unknown-type", "unknown-op"])
def test_unknown_kinds_are_passed_over_with_their_place(name):
    assert decode_frame(STRANGE[name](9), WANTS) == Skipped(9, 0)


def test_an_unknown_kind_without_a_number_has_no_place():
    assert decode_frame(message("#tomorrow", {"x": 1}), WANTS) == Info("#tomorrow")


@pytest.mark.parametrize("name", ["garbage", "empty", "text", "header-only", "fields-missing"])
def test_a_frame_that_nobody_can_read_is_a_bad_frame(name):
    with pytest.raises(BadFrame):
        decode_frame(STRANGE[name](9), WANTS)


def test_an_error_frame_says_why_the_source_will_not_go_on():
    with pytest.raises(SourceError, match="FutureCursor: too far") as caught:
        decode_frame(error("FutureCursor", "too far"), WANTS)
    assert caught.value.name == "FutureCursor"
    with pytest.raises(SourceError):
        decode_frame(encode({"op": -1}) + encode([1]), WANTS)


def test_info_has_a_name():
    frame = message("#info", {"name": "OutdatedCursor", "message": "old"})
    assert decode_frame(frame, WANTS) == Info("OutdatedCursor")


def test_a_commit_that_is_too_big_is_a_hole():
    event = decode_frame(commit_frame(tooBig=True, ops=[], blocks=b""), WANTS)
    assert (event.ops, event.hole) == ((), "tooBig")


def test_a_missing_block_is_a_hole():
    cid, block = record_block("another")
    event = decode_frame(commit_frame(blocks=car(cid, {cid: block})), WANTS)
    assert (event.ops, event.hole) == ((), "a block is missing")


def test_a_block_that_is_not_what_its_cid_says_is_a_hole():
    cid, block = record_block()
    forged = record_block("forged")[1]
    event = decode_frame(commit_frame(blocks=car(cid, {cid: forged})), WANTS)
    assert (event.ops, event.hole) == ((), "a block is not what its CID says")
    assert decode_frame(commit_frame(blocks=car(cid, {cid: block})), WANTS).hole is None


@pytest.mark.parametrize("cid", [None, "text", 5, b"", b"\x01" * 37])
def test_a_create_without_a_proper_cid_is_a_hole(cid):
    event = decode_frame(commit_frame(ops=[create(cid)]), WANTS)
    assert (event.ops, event.hole) == ((), "an op without a CID")


def test_a_block_under_a_foreign_kind_of_cid_has_its_tie_refused_later_but_is_read():
    block = record_block()[1]
    raw = Cid.of(block, 0x55)
    event = decode_frame(commit_frame(ops=[create(raw)], blocks=car(raw, {raw: block})), WANTS)
    assert event.ops[0].cid == bytes(raw)


def test_two_hundred_ops_are_all_read():
    blocks = dict(record_block(str(n)) for n in range(200))
    ops = [create(cid, f"{POST}/{tid(n)}") for n, cid in enumerate(blocks)]
    first = next(iter(blocks))
    event = decode_frame(commit_frame(ops=ops, blocks=car(first, blocks)), WANTS)
    assert [op.record["text"] for op in event.ops] == [str(n) for n in range(200)]


@pytest.mark.parametrize(
    "path",
    [
        f"{LIKE}/{tid(1)}",
        f"{POST}gate/{tid(1)}",
        f"x.{POST}/{tid(1)}",
        f"{POST.upper()}/{tid(1)}",
        f"{POST}/..",
        f"{POST}/",
        POST,
        f"{POST}/a/b",
        f"{POST}/{tid(1)}\n",
        f"{POST}/{'x' * 513}",
        f"{POST}/ä",
    ],
)
def test_ops_of_other_collections_and_impossible_keys_are_left_out(path):
    event = decode_frame(commit_frame(ops=[create(None, path, "delete")]), WANTS)
    assert (event.ops, event.hole) == ((), None)


def test_an_unknown_action_or_a_path_of_another_type_is_a_hole():
    for op in (create(None, f"{POST}/{tid(1)}", "move"), {"action": "delete", "path": 5}, "op"):
        assert decode_frame(commit_frame(ops=[op]), WANTS).hole is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"rev": "x"},
        {"rev": 5},
        {"ops": None},
        {"ops": [None] * 1001},
        {"time": "noon"},
        {"time": 1},
    ],
)
def test_a_commit_of_a_tracked_repo_that_has_no_order_makes_its_author_be_fetched(changes):
    assert isinstance(decode_frame(commit_frame(**changes), WANTS), Sync)


@pytest.mark.parametrize("seq", [None, -1, 2**63, True, "7", 1.0])
def test_a_commit_without_a_number_is_a_bad_frame(seq):
    with pytest.raises(BadFrame):
        decode_frame(commit_frame(seq=seq), WANTS)


@pytest.mark.parametrize("since", [None, "x", 5])
def test_a_since_that_is_no_rev_is_none(since):
    assert decode_frame(commit_frame(since=since), WANTS).since == 0


def test_an_account_event_without_a_plain_answer_makes_the_author_be_fetched():
    body = {"seq": 1, "did": ALICE, "time": iso(NOW_MS), "active": "yes"}
    assert decode_frame(message("#account", body), WANTS) == Sync(1, NOW_MS, ALICE)


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ("deactivated", "deactivated"),
        (None, None),
        ("a-new_Word1", "a-new_Word1"),
        (["odd"], "unknown"),
        ("", "unknown"),
        ("\0", "unknown"),
        ("x" * 65, "unknown"),
        ("two words", "unknown"),
    ],
)
def test_a_status_is_a_plain_word_or_unknown(status, read):
    body = {"seq": 1, "did": ALICE, "time": iso(NOW_MS), "active": False, "status": status}
    assert decode_frame(message("#account", body), WANTS) == Account(1, NOW_MS, ALICE, False, read)


@pytest.mark.parametrize(
    "frame",
    [
        HEADER + b"\x9b" + b"\xff" * 8,
        HEADER + b"\xbb" + b"\x7f" * 8,
        HEADER + b"\x5b" + b"\x7f" * 8,
        HEADER + b"\x81" * 100_000,
        HEADER + b"\xa1\x01\x02",
        HEADER + b"\xfb" + b"\x7f\xf8" + b"\0" * 6,
        b"\x81" * 100_000,
        b"\x9b" + b"\xff" * 8,
    ],
    ids=["long-list", "long-map", "long-bytes", "deep", "number-key", "nan", "deep-head", "header"],
)
def test_monstrous_lengths_and_depths_are_bad_frames(frame):
    with pytest.raises(BadFrame):
        decode_frame(frame, WANTS)


def assert_sane(frame, wants):
    try:
        event = decode_frame(frame, wants)
    except (BadFrame, SourceError) as refused:
        reason = str(refused)
    else:
        reason = getattr(event, "hole", None) or ""
        assert isinstance(event, Info) or 0 <= event.seq < 2**63
    # The reason goes into the ledger, and PostgreSQL takes no NUL.
    assert "\0" not in reason


@fuzz(1500)
@given(data=st.data())
def test_mutated_frames_give_an_event_or_a_refusal_and_nothing_else(told, data):
    frames, dids = told
    frame = data.draw(st.sampled_from([frame for frame in frames if len(frame) < 5000]))
    spot = data.draw(st.integers(0, len(frame)))
    junk = data.draw(st.binary(min_size=1, max_size=9))
    kind = data.draw(st.sampled_from(("flip", "cut", "insert", "replace", "drop")))
    mutated = {
        "flip": frame[:spot]
        + bytes(b ^ junk[0] for b in frame[spot : spot + 1])
        + frame[spot + 1 :],
        "cut": frame[:spot],
        "insert": frame[:spot] + junk + frame[spot:],
        "replace": frame[:spot] + junk + frame[spot + len(junk) :],
        "drop": frame[:spot] + frame[spot + len(junk) :],
    }[kind]
    assert_sane(mutated, dict.fromkeys(dids, ITEMS | FOLLOWS))


@fuzz(500)
@given(st.binary(max_size=200))
def test_noise_gives_an_event_or_a_refusal_and_nothing_else(noise):
    assert_sane(noise, WANTS)
    assert_sane(HEADER + noise, WANTS)


def test_a_flipped_byte_in_a_wanted_block_is_a_hole_and_never_a_wrong_record():
    block = record_block()[1]
    frame = commit_frame()
    start = frame.index(block)
    for spot in range(start, start + len(block)):
        flipped = frame[:spot] + bytes((frame[spot] ^ 1,)) + frame[spot + 1 :]
        event = decode_frame(flipped, WANTS)
        assert (event.ops, event.hole) == ((), "a block is not what its CID says")
