"""What records mean: flags, references, order, and what is no record at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import BadRecord
from server.core.events import RecordOp
from server.core.projection import (
    CLOCK_SKEW_MS,
    MAX_TEXT_BYTES,
    MEDIA,
    QUOTE,
    REPLY,
    DropRecord,
    RecordRef,
    SaveFollow,
    SaveItem,
    backfill_seen_ms,
    project_op,
    project_record,
    sort_key,
    tie_of_cid,
    tie_of_cid_text,
)
from server.core.syntax import FOLLOW, POST, REPOST
from tests.builders import NOW_MS, cid_text, did, iso, raw_cid, tid

CID = cid_text(raw_cid(0))
KEY = tid(0)


def strong(name="bob", rkey=KEY, collection=POST):
    return {"uri": f"at://{did(name)}/{collection}/{rkey}", "cid": CID}


def post(**changes):
    record = {"$type": POST, "text": "hello", "createdAt": iso(NOW_MS), **changes}
    return {key: value for key, value in record.items() if value is not ...}


def project(record, collection=POST, seen_ms=NOW_MS):
    return project_record(collection, KEY, 5, record, seen_ms)


def test_a_plain_post():
    assert project(post()) == SaveItem(POST, KEY, NOW_MS, NOW_MS, 5, 0, None, None)
    assert project(post(**{"$type": ...})) == project(post())


@pytest.mark.parametrize(
    ("created_ms", "seen_ms", "sort_ms"),
    [(NOW_MS, NOW_MS + 9, NOW_MS), (NOW_MS + 9, NOW_MS, NOW_MS), (NOW_MS, NOW_MS, NOW_MS)],
)
def test_an_item_stands_at_its_own_date_but_not_after_it_was_seen(created_ms, seen_ms, sort_ms):
    item = project(post(createdAt=iso(created_ms)), seen_ms=seen_ms)
    assert (item.created_ms, item.sort_ms) == (created_ms, sort_ms)


@pytest.mark.parametrize(
    ("created", "ms"), [("0001-01-01T00:00:00Z", 0), ("9999-12-31T23:59:59Z", 2**42 - 2)]
)
def test_dates_beyond_what_a_key_holds_stand_at_its_ends(created, ms):
    item = project(post(createdAt=created), seen_ms=2**43)
    assert item.created_ms == item.sort_ms == ms
    assert 0 <= sort_key(item.sort_ms, 2**18 - 1) < 2**63


def test_a_moment_of_sight_before_1970_gives_a_place_that_a_key_holds():
    assert project(post(), seen_ms=-62_135_596_800_000).sort_ms == 0


@pytest.mark.parametrize(
    ("embed", "flags"),
    [
        (None, 0),
        ({"$type": "app.bsky.embed.images", "images": []}, MEDIA),
        ({"$type": "app.bsky.embed.gallery", "items": []}, MEDIA),
        ({"$type": "app.bsky.embed.video"}, MEDIA),
        ({"$type": "app.bsky.embed.external"}, 0),
        ({"$type": "app.bsky.embed.record", "record": strong()}, QUOTE),
        ({"$type": "com.example.later"}, 0),
        (
            {
                "$type": "app.bsky.embed.recordWithMedia",
                "record": {"record": strong()},
                "media": {"$type": "app.bsky.embed.images"},
            },
            QUOTE | MEDIA,
        ),
        (
            {
                "$type": "app.bsky.embed.recordWithMedia",
                "media": {"$type": "app.bsky.embed.external"},
            },
            QUOTE,
        ),
        ({"$type": "app.bsky.embed.recordWithMedia", "media": 5}, QUOTE),
    ],
)
def test_an_embed_makes_flags(embed, flags):
    assert project(post(embed=embed)).flags == flags


def test_a_reply_names_its_parent_and_its_root_where_that_is_another():
    parent, root = strong("bob", tid(2)), strong("carol", tid(1))
    item = project(post(reply={"parent": parent, "root": root}))
    assert item.flags == REPLY
    assert item.subject == RecordRef(did("bob"), tid(2))
    assert item.root == RecordRef(did("carol"), tid(1))
    assert project(post(reply={"parent": root, "root": root})).root is None


def test_a_reply_to_something_else_than_a_post_hangs_on_nothing_that_we_know():
    other = strong(collection="com.example.note")
    assert project(post(reply={"parent": other, "root": other})).subject is None
    item = project(post(reply={"parent": other, "root": strong()}))
    assert (item.subject, item.root) == (None, RecordRef(did("bob"), KEY))
    item = project(post(reply={"parent": strong(), "root": other}))
    assert (item.flags, item.subject, item.root) == (REPLY, None, None)


def test_a_repost_names_its_subject():
    record = {"subject": strong(), "createdAt": iso(NOW_MS), "via": strong("eve")}
    item = project(record, REPOST)
    assert (item.collection, item.flags, item.root) == (REPOST, 0, None)
    assert item.subject == RecordRef(did("bob"), KEY)


def test_a_follow_names_its_subject_however_odd_its_key():
    record = {"subject": did("bob"), "createdAt": iso(NOW_MS)}
    assert project_record(FOLLOW, "self", 0, record, NOW_MS) == SaveFollow("self", did("bob"))


@pytest.mark.parametrize(
    ("collection", "record"),
    [
        (POST, None),
        (POST, []),
        (POST, "text"),
        (POST, post(**{"$type": REPOST})),
        (POST, post(**{"$type": 5})),
        (POST, post(createdAt=...)),
        (POST, post(createdAt="yesterday")),
        (POST, post(createdAt=NOW_MS)),
        (POST, post(createdAt="2026-01-01T00:00:00")),
        (POST, post(text=...)),
        (POST, post(text=5)),
        (POST, post(text="x" * (MAX_TEXT_BYTES + 1))),
        (POST, post(text="ä" * (MAX_TEXT_BYTES // 2 + 1))),
        (POST, post(embed="image")),
        (POST, post(embed={})),
        (POST, post(embed={"$type": 5})),
        (POST, post(reply=5)),
        (POST, post(reply={})),
        (POST, post(reply={"parent": strong()})),
        (POST, post(reply={"root": strong(), "parent": {"uri": strong()["uri"]}})),
        (POST, post(reply={"root": strong(), "parent": {"uri": "x", "cid": CID}})),
        (POST, post(reply={"root": strong(), "parent": {"uri": 5, "cid": CID}})),
        (REPOST, {"createdAt": iso(NOW_MS)}),
        (REPOST, {"createdAt": iso(NOW_MS), "subject": strong(collection=FOLLOW)}),
        (REPOST, {"createdAt": iso(NOW_MS), "subject": did("bob")}),
        (REPOST, {"subject": strong()}),
        (FOLLOW, {"createdAt": iso(NOW_MS)}),
        (FOLLOW, {"createdAt": iso(NOW_MS), "subject": strong()}),
        (FOLLOW, {"createdAt": iso(NOW_MS), "subject": "alice.test"}),
        (FOLLOW, {"createdAt": iso(NOW_MS), "subject": did("bob") + "\n"}),
        (FOLLOW, {"subject": did("bob")}),
    ],
)
def test_what_its_lexicon_refuses_is_no_record(collection, record):
    with pytest.raises(BadRecord):
        project_record(collection, KEY, 0, record, NOW_MS)
    op = RecordOp(collection, KEY, raw_cid(1), record)
    assert project_op(op, NOW_MS) is None


def test_texts_at_the_bound_are_read_lone_surrogates_too():
    assert project(post(text="x" * MAX_TEXT_BYTES))
    assert project(post(text="\ud800"))


def test_an_op_without_a_cid_drops_and_one_of_another_kind_of_cid_says_nothing():
    assert project_op(RecordOp(POST, KEY, None, None), NOW_MS) == DropRecord(POST, KEY)
    foreign = b"\x01\x55" + raw_cid(1)[2:]
    assert project_op(RecordOp(POST, KEY, foreign, post()), NOW_MS) is None
    assert project_op(RecordOp(POST, KEY, raw_cid(1), post()), NOW_MS).tie == tie_of_cid(raw_cid(1))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_ties_of_cids_compare_as_the_texts_of_the_cids_do(one, other):
    raws = [b"\x01\x71\x12\x20" + digest for digest in (one, other)]
    texts = [cid_text(raw) for raw in raws]
    ties = [tie_of_cid(raw) for raw in raws]
    assert [tie_of_cid_text(text) for text in texts] == ties
    assert all(0 <= tie < 2**18 for tie in ties)
    if ties[0] != ties[1]:
        assert (ties[0] < ties[1]) == (texts[0] < texts[1])
    else:
        assert texts[0][:11] == texts[1][:11]


@pytest.mark.parametrize("cid", [None, 5, "", "bafyrei", CID[:-1], CID + "a", "bafkrei" + CID[7:]])
def test_what_is_no_cid_of_a_record(cid):
    with pytest.raises(BadRecord):
        tie_of_cid_text(cid)


@pytest.mark.parametrize("digits", ["1aaa", "aA2a", "a1aa", "aä2a"])
def test_digits_that_no_cid_has_are_refused(digits):
    with pytest.raises(BadRecord):
        tie_of_cid_text("bafyrei" + digits + CID[11:])


@pytest.mark.parametrize("raw", [b"", raw_cid(0)[:35], raw_cid(0) + b"x", b"\x00" * 36])
def test_raw_bytes_that_are_no_cid_of_a_record(raw):
    with pytest.raises(BadRecord):
        tie_of_cid(raw)


def test_keys_order_by_time_and_then_by_tie_with_room_for_eight_equals():
    assert sort_key(5, 2**18 - 1) + 8 == sort_key(6, 0)
    assert sort_key(5, 1) + 8 == sort_key(5, 2)


@pytest.mark.parametrize(
    ("key_ms", "created_ms", "seen_ms"),
    [
        (-1000, -1000, 0),
        (-1000, 10**9, -1000),
        (-1000, -1000 + CLOCK_SKEW_MS, 0),
        (-1000, -1000 + CLOCK_SKEW_MS + 1, -1000),
        (5000, 10**9, 0),
        (-(10**9), -1000, -(10**9)),
    ],
)
def test_a_backfilled_record_was_seen_by_the_best_bound_that_is_known(key_ms, created_ms, seen_ms):
    found = backfill_seen_ms(tid(key_ms), iso(NOW_MS + created_ms), NOW_MS)
    assert found == NOW_MS + seen_ms


def test_without_a_tid_or_a_date_a_backfilled_record_was_seen_now():
    assert backfill_seen_ms("self", iso(NOW_MS + 10**9), NOW_MS) == NOW_MS
    assert backfill_seen_ms(tid(-1000), "never", NOW_MS) == NOW_MS
