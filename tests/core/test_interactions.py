"""What counts of what an app reports: sound marks of what has been; nothing else, and no error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.interactions import SEEN, furthest_seen, has_been, make_req_id
from server.core.projection import sort_key
from tests.builders import NOW_MS, NOW_US

FEED = "catch-up"
REQ_ID = make_req_id(FEED, NOW_US)
KEY = sort_key(NOW_MS - 1000, 5)


def seen(key=KEY, **changes):
    return {
        "item": "at://x",
        "event": SEEN,
        "feedContext": str(key),
        "reqId": REQ_ID,
    } | changes


def furthest(*interactions):
    return furthest_seen(interactions, {FEED, "other"}, NOW_US)


def test_the_furthest_item_of_each_feed_counts_in_whatever_order_they_come():
    other = seen(KEY + 7, reqId=make_req_id("other", 1))
    assert furthest(seen(KEY - 1), seen(KEY), seen(KEY - 2), other) == {FEED: KEY, "other": KEY + 7}


def test_what_is_reported_of_the_posts_above_a_reply_counts_for_the_reply():
    assert furthest(seen(item="at://the/root/of-it"), seen(item=None)) == {FEED: KEY}


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "seen",
        [],
        {},
        seen(event="app.bsky.feed.defs#interactionLike"),
        seen(event=None),
        seen(event=[SEEN]),
        seen(reqId=None),
        seen(reqId=5),
        seen(reqId=FEED),
        seen(reqId="following.1"),
        seen(reqId=""),
        seen(feedContext=None),
        seen(feedContext=KEY),
        seen(feedContext=""),
        seen(feedContext="-1"),
        seen(feedContext="\u0661"),
        seen(feedContext=f" {KEY}"),
        seen(feedContext="9" * 19),
        seen(feedContext="9" * 20),
        seen(feedContext="9" * 5000),
        seen(sort_key(NOW_MS + 1, 0)),
        seen(2**63),
    ],
)
def test_a_wrong_one_costs_nothing(wrong):
    assert furthest(wrong) == {}
    assert furthest(wrong, seen(), wrong) == {FEED: KEY}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(seen())), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=5))
def test_no_json_makes_a_mistake_of_ours(interactions):
    for key in furthest(*interactions).values():
        assert has_been(key, NOW_US)
