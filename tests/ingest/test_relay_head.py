"""The look at the raw head: it says what the decoder says, or nothing at all."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadFrame
from server.core.events import Commit, Skipped
from server.ingest.relay import SourceError, decode_frame, decode_whole
from server.ingest.relay_head import skip, without_strangers
from server.storage.repos import FOLLOWS, ITEMS
from simnet.dag_cbor import RAW, Cid, encode
from simnet.frames import message
from tests.builders import NOW_MS, did, iso, tid
from tests.devnet.record import recorded
from tests.fuzzing import fuzz
from tests.ingest.frames import LIKE, POST, REPOST, commit_body, commit_frame, create, slow_decode
from tests.ingest.sifting import is_passed_over

ALICE, WEB = did("alice"), "did:web:alice.example.com"
FOLLOW = "app.bsky.graph.follow"
FIRST_OF_64_BITS = 31_600_000_000
BLOCK = Cid.of(b"block")


def told_whole(frame, wants):
    """What the decoder says; the kind of a refusal, if it is one."""
    try:
        return decode_whole(frame, wants)
    except (BadFrame, SourceError) as refused:
        return type(refused)


def assert_equal_to_the_decoder(frame, wants):
    """Nothing, or the same; but a stranger's commit may be skipped though its end is broken."""
    told, whole = skip(frame, wants), told_whole(frame, wants)
    if frame and is_passed_over(without_strangers, frame, wants):
        assert whole is BadFrame or isinstance(whole, Skipped)
    if told is not None and whole is not BadFrame:
        assert told == whole
    if whole is BadFrame:
        assert told is None or isinstance(told, Skipped)
    return told


@pytest.fixture(scope="module")
def frames():
    return recorded()


@pytest.fixture(scope="module")
def dids(frames):
    """Everybody who is in the recording."""
    found = set()
    for frame in frames:
        at = frame.find(b"x did:plc:")
        found.add(frame[at + 2 : at + 34].decode())
    return sorted(found)


def test_recorded_frames_of_all_kinds_mean_what_the_official_sdk_says(frames, dids):
    kinds = Counter()
    for wants in ({}, dict.fromkeys(dids, ITEMS), dict.fromkeys(dids, ITEMS | FOLLOWS)):
        for frame in frames:
            event = decode_frame(frame, wants)
            assert event == slow_decode(frame, wants)
            kinds[type(event).__name__] += 1
    assert kinds.keys() == {"Commit", "Sync", "Account", "Identity", "Skipped"}


def test_the_head_tells_of_nearly_all_recorded_commits(frames, dids):
    commits = [frame for frame in frames if frame.startswith(b"\xa2atg#commit")]
    strangers = [skip(frame, {}) for frame in commits]
    tracked = [skip(frame, dict.fromkeys(dids, ITEMS)) for frame in commits]
    assert sum(event is not None for event in strangers) >= len(commits) - 2
    assert sum(event is not None for event in tracked) >= 5


def test_strangers_are_passed_over_among_many_and_nobody_else(frames, dids):
    for wants in ({}, dict.fromkeys(dids[::2], ITEMS), dict.fromkeys(dids, ITEMS)):
        over = {frame for frame in frames if is_passed_over(without_strangers, frame, wants)}
        assert all(isinstance(decode_whole(frame, wants), Skipped) for frame in over)
        if not wants:
            # All but what is about nobody, or said in an unusual way.
            assert len(over) >= len(set(frames)) - 5
        if len(wants) == len(dids):
            assert not over


@pytest.mark.parametrize("kind", ["#identity", "#account", "#sync"])
def test_what_is_said_of_a_stranger_is_passed_over(kind):
    body = {"did": ALICE, "seq": 7, "time": iso(NOW_MS), "active": True, "rev": tid(1)}
    frame = message(kind, body)
    assert is_passed_over(without_strangers, frame, {did("bob"): ITEMS})
    assert not is_passed_over(without_strangers, frame, {ALICE: ITEMS})
    assert not is_passed_over(without_strangers, message("#info", {"name": "x"}), {})


WANTS = {ALICE: ITEMS, WEB: ITEMS | FOLLOWS}


@pytest.mark.parametrize("wanted", [ITEMS, ITEMS | FOLLOWS])
@pytest.mark.parametrize(
    "collection", [POST, REPOST, FOLLOW, LIKE, f"{POST}al", "org.example.thing"]
)
def test_a_commit_is_skipped_just_if_it_touches_nothing_that_is_wanted(collection, wanted):
    frame = commit_frame(ops=[create(BLOCK, f"{collection}/{tid(1)}")], prevData=BLOCK)
    # Follows of everybody tracked: they may name a viewer.
    assert (skip(frame, {ALICE: wanted}) is None) == (collection in (POST, REPOST, FOLLOW))


def test_a_skipped_commit_of_a_tracked_repo_still_moves_its_rev():
    frame = commit_frame(ops=[create(BLOCK, f"{LIKE}/{tid(1)}")])
    told = skip(frame, WANTS)
    assert isinstance(told, Commit)
    assert told == decode_whole(frame, WANTS)
    assert (told.rev > told.since > 0, told.ops, told.hole) == (True, (), None)


def test_a_path_that_only_looks_like_the_head_of_a_stranger_hides_nothing():
    """The head of another commit, written into a path where a search would find it first."""
    lie = f"x/drepox {did('mallory')}dtimex"
    told = assert_equal_to_the_decoder(commit_frame(ops=[create(BLOCK, lie)]), WANTS)
    assert told is None or told.repo == ALICE
    both = [create(BLOCK, f"{LIKE}/{tid(1)}"), create(BLOCK, f"{POST}/{tid(1)}")]
    assert skip(commit_frame(ops=both), WANTS) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"tooBig": True},
        {"blobs": [BLOCK]},
        {"since": "x"},
        {"rev": "x"},
        {"time": iso(0)},
        {"seq": 2**63},
        {"time": iso(NOW_MS)[:-5] + "Z"},
        {"time": "2026-02-31 12:00:00.000Z"},
        {"blocks": None},
        {"commit": None},
        {"extra": 1},
        {"repo": "did:plc:short"},
        {"ops": [create(BLOCK, f"{LIKE}/{tid(1)}")] * 3},
        {"ops": [create(BLOCK, f"{LIKE}/{tid(1)}", "move")]},
        {"ops": [create(BLOCK, "ä" * 16)]},
    ],
)
def test_what_is_unusual_is_left_to_the_decoder(changes):
    usual = {"ops": [create(BLOCK, f"{LIKE}/{tid(1)}")]}
    assert skip(commit_frame(**usual), WANTS) is not None
    assert skip(commit_frame(**{**usual, **changes}), WANTS) is None


def test_a_frame_whose_keys_are_not_as_many_as_it_says_is_refused():
    frame = commit_frame(ops=[create(BLOCK, f"{LIKE}/{tid(1)}")])
    for keys in (b"\xaa", b"\xac", b"\xad"):
        false = frame[:14] + keys + frame[15:]
        assert skip(frame, WANTS) is not None
        assert skip(false, WANTS) is None
        with pytest.raises(BadFrame):
            decode_frame(false, WANTS)


cids = st.sampled_from([BLOCK, Cid.of(b"blob", RAW), None])
collections = st.sampled_from([POST, REPOST, FOLLOW, LIKE, f"{POST}gate", "org.example.thing"])
rkeys = st.one_of(st.just(tid(3)), st.text("abc234567.-_~:", max_size=40))
actions = st.sampled_from(["create", "update", "delete", "move"])
ops = st.builds(
    lambda cid, name, rkey, action, prev: {
        "cid": cid,
        "path": f"{name}/{rkey}",
        "action": action,
        **({} if prev is None else {"prev": prev}),
    },
    cids,
    collections,
    rkeys,
    actions,
    cids,
)
bodies = st.fixed_dictionaries(
    {
        "ops": st.lists(ops, max_size=4),
        "seq": st.one_of(st.integers(0, 2**63), st.just(FIRST_OF_64_BITS), st.integers(0, 300)),
        "repo": st.sampled_from([ALICE, did("bob"), WEB, "did:web:x.y", "did:web:" + "a." * 40]),
        "rev": st.sampled_from([tid(2), tid(9), "zzzzzzzzzzzzz", "2", 5]),
        "since": st.sampled_from([tid(1), None, "", 5]),
        "blobs": st.sampled_from([[], [], [BLOCK]]),
        "blocks": st.sampled_from([b"", b"x" * 23, b"x" * 24, b"x" * 300, b"x" * 70_000, None]),
        "time": st.sampled_from(
            [
                iso(NOW_MS),
                iso(0),
                "2026-02-30T00:00:00.999Z",
                "2026-02-30T25:00:00.999Z",
                "soon",
                None,
            ]
        ),
        "tooBig": st.booleans(),
        "rebase": st.booleans(),
    },
    optional={"prevData": cids},
)


@fuzz(500)
@given(bodies)
def test_commits_of_any_shape_mean_what_the_decoder_says(changes):
    frame = message("#commit", {**commit_body(), **changes})
    for wants in ({}, WANTS):
        assert_equal_to_the_decoder(frame, wants)


@fuzz(833)
@given(data=st.data())
def test_mutated_frames_mean_what_the_decoder_says_or_are_left_to_it(frames, dids, data):
    frame = data.draw(st.sampled_from([frame for frame in frames if len(frame) < 4000]))
    # Mostly in the head, which is what is read.
    spot = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(frame)))) % len(frame)
    junk = data.draw(st.binary(min_size=1, max_size=9))
    kind = data.draw(st.sampled_from(("flip", "cut", "insert", "replace", "drop")))
    flipped = bytes((frame[spot] ^ junk[0],)) + frame[spot + 1 :]
    end = {
        "flip": flipped,
        "cut": b"",
        "insert": junk + frame[spot:],
        "replace": junk + frame[spot + len(junk) :],
        "drop": frame[spot + len(junk) :],
    }[kind]
    for wants in ({}, dict.fromkeys(dids, ITEMS), dict.fromkeys(dids, ITEMS | FOLLOWS)):
        assert_equal_to_the_decoder(frame[:spot] + end, wants)


def test_numbers_written_longer_than_they_need_are_read_as_the_decoder_reads_them():
    frame = commit_frame(ops=[create(BLOCK, f"{LIKE}/{tid(1)}")], seq=7)
    assert frame.count(b"cseq\x07") == 1
    for number in (b"\x18\x07", b"\x19\0\x07", b"\x1a\0\0\0\x07", b"\x1b" + bytes(7) + b"\x07"):
        longer = frame.replace(b"cseq\x07", b"cseq" + number)
        for wants in ({}, WANTS):
            assert skip(longer, wants) == told_whole(longer, wants)


def test_a_header_of_another_kind_is_left_to_the_decoder():
    body = commit_body(ops=[create(BLOCK, f"{LIKE}/{tid(1)}")])
    assert skip(encode({"t": "#sync", "op": 1}) + encode(body), {}) is None
    assert skip(encode({"t": "#commit", "op": 1, "more": 1}) + encode(body), {}) is None
