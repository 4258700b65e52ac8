"""Records that nobody's client wrote: a row that every table takes, or no record at all."""

from hypothesis import given
from hypothesis import strategies as st

from server.core.events import RecordOp
from server.core.projection import SaveFollow, SaveItem, backfill_seen_ms, project_op, sort_key
from tests.builders import did, raw_cid, tid
from tests.fuzzing import JSONISH, fuzz

COLLECTIONS = ["app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.graph.follow"]
POST_URI = f"at://{did('ann')}/app.bsky.feed.post/{tid(1)}"
REF = st.fixed_dictionaries({"uri": st.just(POST_URI) | JSONISH, "cid": JSONISH}) | JSONISH
DATES = st.sampled_from(["2026-11-21T12:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:60Z"])
EMBED = st.fixed_dictionaries(
    {"$type": st.sampled_from(["app.bsky.embed.record", "app.bsky.embed.images"]) | JSONISH}
)
FIELDS = {
    "$type": st.sampled_from(COLLECTIONS) | JSONISH,
    "text": st.text(max_size=40) | JSONISH,
    "createdAt": DATES | st.text(max_size=30) | JSONISH,
    "reply": st.fixed_dictionaries({}, optional={"root": REF, "parent": REF}) | JSONISH,
    "embed": EMBED | JSONISH,
    "subject": REF | st.just(did("ann")),
    "langs": JSONISH,
}
RECORDS = st.fixed_dictionaries({}, optional=FIELDS) | JSONISH


@fuzz(60)
@given(
    st.sampled_from(COLLECTIONS),
    RECORDS,
    st.binary(max_size=40) | st.just(raw_cid(1)),
    st.integers(-(2**53), 2**53),
)
def test_any_record_is_a_sound_row_or_none(collection, record, cid, seen_ms):
    op = RecordOp(collection, tid(5), cid, record)
    change = project_op(op, seen_ms)
    if isinstance(change, SaveItem):
        assert 0 <= sort_key(change.sort_ms, change.tie) < 2**63
    elif isinstance(change, SaveFollow):
        assert change.subject.startswith("did:")


@fuzz(60)
@given(st.text(max_size=20) | st.just(tid(5)), JSONISH | DATES, st.integers(0, 2**43))
def test_any_key_and_date_of_a_backfilled_record_give_a_moment(rkey, created_at, now_ms):
    assert isinstance(backfill_seen_ms(rkey, created_at, now_ms), int)
