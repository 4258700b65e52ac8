"""Cursors and skeletons: what goes out is what the lexicon allows, what comes in is ours."""

import pytest
from atproto import models
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import MalformedCursor
from server.core.feed import (
    Feed,
    FeedCursor,
    TimelineFilter,
    TimelineItem,
    to_skeleton,
)
from tests.builders import did, tid
from tests.fuzzing import fuzz

POST_URI = f"at://{did('ann')}/app.bsky.feed.post/{tid(1)}"
REPOST_URI = f"at://{did('ben')}/app.bsky.feed.repost/{tid(2)}"
Response = models.AppBskyFeedGetFeedSkeleton.Response


KEYS = st.integers(0, 2**63 - 1)


@fuzz(100)
@given(KEYS, st.one_of(st.none(), KEYS))
def test_a_cursor_is_read_as_written(key, began):
    # A page that is read upwards ends above the place where it began.
    cursor = FeedCursor(key) if began is None else FeedCursor(max(key, began), min(key, began))
    assert FeedCursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1-",
        "-1",
        "1--5",
        "2-5",
        "1-5 ",
        " 1-5",
        "1-5\n",
        "1-+5",
        "1-5.0",
        "1-1_0",
        "1-\u0665",
        f"1-{2**63}",
        "1-" + "9" * 19,
        "1-" + "0" * 20,
        "1-" + "9" * 5000,
        "1-5-",
        "1-5-6",
        "1-5-4-3",
        "1-5--4",
        f"1-{2**63}-1",
        "1-5\0",
    ],
)
def test_a_cursor_that_we_did_not_write_is_refused(text):
    with pytest.raises(MalformedCursor) as refused:
        FeedCursor.decode(text)
    assert (refused.value.status, refused.value.name) == (400, "InvalidRequest")


@fuzz(200)
@given(st.text() | st.from_regex(r"[0-9+ ]?-?[0-9_.]{0,40}\s?", fullmatch=True))
def test_any_text_is_a_cursor_within_bounds_or_malformed(text):
    try:
        cursor = FeedCursor.decode(text)
    except MalformedCursor:
        return
    assert 0 <= (cursor.began or 0) <= cursor.key < 2**63


def test_a_skeleton_names_posts_reposts_and_where_to_go_on():
    items = [TimelineItem(9, POST_URI, None), TimelineItem(7, POST_URI, REPOST_URI)]
    assert to_skeleton(items, FeedCursor(7)) == {
        "feed": [
            {"post": POST_URI},
            {
                "post": POST_URI,
                "reason": {
                    "$type": "app.bsky.feed.defs#skeletonReasonRepost",
                    "repost": REPOST_URI,
                },
            },
        ],
        "cursor": "1-7",
    }


def test_without_a_cursor_the_key_is_absent():
    assert to_skeleton([], None) == {"feed": []}
    assert "cursor" not in to_skeleton([TimelineItem(9, POST_URI, None)], None)


def test_a_skeleton_that_asks_for_interactions_marks_itself_and_every_item():
    skeleton = to_skeleton([TimelineItem(9, POST_URI, None)], None, "catch-up.5")
    assert skeleton["reqId"] == "catch-up.5"
    assert skeleton["feed"] == [{"post": POST_URI, "feedContext": "9"}]


@given(
    st.lists(
        st.builds(
            TimelineItem,
            st.integers(0, 2**63 - 1),
            st.just(POST_URI),
            st.sampled_from((None, REPOST_URI)),
        ),
        max_size=100,
    ),
    st.one_of(st.none(), st.builds(FeedCursor, KEYS)),
    st.one_of(st.none(), st.just("catch-up.5")),
)
def test_the_official_model_takes_every_skeleton_and_adds_nothing(items, cursor, req_id):
    skeleton = to_skeleton(items, cursor, req_id)
    read = Response.model_validate(skeleton, strict=True)
    assert [entry.post for entry in read.feed] == [item.post_uri for item in items]
    reasons = [entry.reason and entry.reason.repost for entry in read.feed]
    assert reasons == [item.repost_uri for item in items]
    assert all(None not in entry.values() for entry in [skeleton, *skeleton["feed"]])


def test_a_feed_knows_where_its_record_lives_and_shows_everything_unless_told():
    feed = Feed("mine", "Mine", "All of it")
    assert feed.uri(did("ann")) == f"at://{did('ann')}/app.bsky.feed.generator/mine"
    assert feed.filter == TimelineFilter(reposts=True, replies="all")
