"""Reading from the bottom: where it begins, what moves that place, and what cannot."""

import json
import time

import pytest

from feeds import FEEDS
from feeds.catch_up import FEED
from server.app import create_app
from server.core.config import UNPUBLISHED_DID, load_config
from server.core.interactions import SEEN
from server.identity.service_auth import ServiceToken
from server.storage import follow_backs, read_positions, viewers
from server.storage.database import DatabaseError, execute
from server.storage.forget import forget
from server.web import xrpc
from tests.builders import Stream, did, follow, number_of, post, tid, track

pytestmark = pytest.mark.usefixtures("db")

ITEMS = 12
HOUR_MS = 3_600_000


class Reader:
    """A viewer's app; only the tokens are made up, each with an identifier of its own."""

    def __init__(self, monkeypatch):
        self.client = create_app(load_config({})).test_client()
        self.jti = 0
        monkeypatch.setattr(xrpc, "requester", self.requester)
        self.name = "viewer"

    def requester(self, _request, method, *_):
        self.jti += 1
        return ServiceToken(did(self.name), "did:web:x", method, 0, 0, str(self.jti))

    def page(self, limit=5, cursor=None, feed=FEED):
        query = {"feed": feed.uri(UNPUBLISHED_DID), "limit": limit, "cursor": cursor or ""}
        answer = self.client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)
        assert answer.status_code == 200, answer.data
        return answer.json

    def report(self, *interactions, **fields):
        body = {"interactions": list(interactions)} | fields
        return self.send(json.dumps(body))

    def send(self, data):
        answer = self.client.post(f"/xrpc/{xrpc.SEND_INTERACTIONS}", data=data)
        return answer.status_code, answer.json


@pytest.fixture
def reader(monkeypatch, lease):
    """A viewer who follows ann; ann has written ITEMS posts, one an hour."""
    now_ms = time.time_ns() // 1_000_000
    stream = Stream(lease.epoch)
    viewers.welcome(did("viewer"), 1)
    track("ann")
    stream.say("viewer", follow(tid(0), "ann"))
    for number in range(ITEMS):
        stream.say("ann", post(tid(number), now_ms - (ITEMS - number) * HOUR_MS))
    return Reader(monkeypatch)


def numbers(page):
    """Which posts a page shows: 0 is the oldest."""
    rkeys = [tid(number) for number in range(ITEMS)]
    return [rkeys.index(item["post"].rpartition("/")[2]) for item in page["feed"]]


def seen(page, index=-1):
    """What the app reports of an item that it showed."""
    item = page["feed"][index]
    return {
        "item": item["post"],
        "event": SEEN,
        "feedContext": item["feedContext"],
        "reqId": page["reqId"],
    }


def fail(*_):
    raise DatabaseError("gone")


def test_the_first_time_it_begins_a_day_ago_and_goes_upwards(reader):
    first = reader.page()
    assert numbers(first) == [0, 1, 2, 3, 4]
    second = reader.page(cursor=first["cursor"])
    assert numbers(second) == [5, 6, 7, 8, 9]
    last = reader.page(cursor=second["cursor"])
    assert numbers(last) == [10, 11]
    assert "cursor" not in last


@pytest.mark.by_hand
def test_what_is_older_than_a_day_is_not_unread_the_first_time(reader):
    execute("UPDATE feed_items SET id = id - ? WHERE rkey = ?", ((30 * HOUR_MS) << 21, rkey(0)))
    assert numbers(reader.page()) == [1, 2, 3, 4, 5]


def rkey(number):
    """A record key as the table has it."""
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    text = tid(number)
    return sum(digits.index(digit) << 5 * place for place, digit in enumerate(reversed(text)))


def test_it_goes_on_with_the_last_item_seen(reader):
    page = reader.page()
    assert reader.report(seen(page, 0), seen(page, 3), seen(page, 2)) == (200, {})
    assert numbers(reader.page()) == [3, 4, 5, 6, 7]
    assert reader.report(seen(page, 1)) == (200, {})
    assert numbers(reader.page()) == [3, 4, 5, 6, 7], "what was read stays read"


def test_a_poll_for_news_shows_the_first_unseen_item(reader):
    page = reader.page(limit=100)
    assert numbers(reader.page(limit=1)) == [0]
    reader.report(seen(page, 4))
    assert numbers(reader.page(limit=1)) == [5]
    reader.report(seen(page))
    assert numbers(reader.page(limit=1)) == []
    assert numbers(reader.page()) == [ITEMS - 1]


def test_pages_that_are_being_read_stand_still_while_the_place_moves(reader):
    first = reader.page()
    reader.report(seen(first))
    second = reader.page(cursor=first["cursor"])
    assert numbers(second) == [5, 6, 7, 8, 9]
    reader.report(seen(second))
    assert numbers(reader.page(cursor=first["cursor"])) == [5, 6, 7, 8, 9]


def test_without_reports_turning_pages_moves_the_place_to_the_page_before(reader):
    first = reader.page(limit=4)
    second = reader.page(limit=4, cursor=first["cursor"])
    assert numbers(reader.page(limit=4)) == [0, 1, 2, 3]
    reader.page(limit=4, cursor=second["cursor"])
    assert numbers(reader.page(limit=4)) == [3, 4, 5, 6]
    cursor = reader.page(limit=1)["cursor"]
    for _ in range(3):
        cursor = reader.page(limit=1, cursor=cursor)["cursor"]
    assert numbers(reader.page(limit=4)) == [3, 4, 5, 6], "asking for single items turns no page"


def test_a_report_counts_for_whoever_sends_it_and_nobody_else(reader):
    page = reader.page()
    reader.name = "nosy"
    assert reader.report(seen(page)) == (200, {})
    reader.name = "viewer"
    assert numbers(reader.page()) == [0, 1, 2, 3, 4]
    assert viewers.find(did("nosy")) is None


def test_a_token_that_comes_twice_does_nothing_the_second_time(reader, monkeypatch):
    page = reader.page()
    token = reader.requester(None, xrpc.SEND_INTERACTIONS)
    monkeypatch.setattr(xrpc, "requester", lambda *_: token)
    assert reader.report(seen(page, 1)) == (200, {})
    assert reader.report(seen(page, 4)) == (200, {})
    place = read_positions.position(number_of("viewer"), FEED.rkey)
    assert place == int(page["feed"][1]["feedContext"])


def test_a_report_that_could_not_be_saved_counts_when_it_comes_again(reader, monkeypatch):
    page = reader.page()
    token = reader.requester(None, xrpc.SEND_INTERACTIONS)
    monkeypatch.setattr(xrpc, "requester", lambda *_: token)
    with monkeypatch.context() as broken:
        broken.setattr(read_positions, "advance", fail)
        assert reader.report(seen(page))[0] == 503
    assert reader.report(seen(page)) == (200, {})
    assert numbers(reader.page())[0] == numbers(page)[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "app.bsky.feed.defs#requestLess"},
        {"feedContext": str(2**62)},
        {"feedContext": "x"},
        {"reqId": "following.1"},
    ],
)
def test_a_wrong_report_costs_nothing(reader, wrong):
    page = reader.page()
    answer = reader.report(seen(page) | wrong, seen(page, 2), None, feed=None)
    assert answer == (200, {})
    assert numbers(reader.page()) == [2, 3, 4, 5, 6]


def test_a_body_of_another_form_is_refused(reader):
    for body, error in (
        (b"", "InvalidRequest"),
        (b"[]", "InvalidRequest"),
        (b"\xff", "InvalidRequest"),
        (b"{}", "InvalidRequest"),
        (b'{"interactions":{}}', "InvalidRequest"),
        (json.dumps({"interactions": [None] * 501}), "InvalidRequest"),
        (b'{"interactions":[],"feed":"at://x/y/z"}', "UnknownFeed"),
        (b'{"interactions":[],"feed":5}', "UnknownFeed"),
    ):
        status, answer = reader.send(body)
        assert (status, answer["error"]) == (400, error), body


def test_a_cursor_of_ones_own_making_moves_the_place_no_further_than_now(reader):
    reader.page(cursor=f"1-{2**63 - 1}-{2**62}")
    assert read_positions.position(number_of("viewer"), FEED.rkey) is None
    assert numbers(reader.page()) == [0, 1, 2, 3, 4]


def test_who_has_read_no_further_than_the_least_key_turns_pages_like_everybody(reader):
    assert reader.report(seen(reader.page()) | {"feedContext": "0"}) == (200, {})
    first = reader.page()
    assert numbers(first) == [0, 1, 2, 3, 4]
    assert numbers(reader.page(cursor=first["cursor"])) == [5, 6, 7, 8, 9]


def test_feeds_read_from_the_top_ask_for_nothing(reader):
    # Nobody waits for a look-up that nobody does here.
    follow_backs.want(number_of("viewer"), 1)
    for feed in FEEDS:
        page = reader.page(feed=feed)
        is_asking = "reqId" in page
        assert is_asking is feed.oldest_first
        assert all(("feedContext" in item) is is_asking for item in page["feed"])


def test_a_viewer_who_was_forgotten_a_moment_ago_gets_an_answer_in_each_feed(reader):
    before = reader.page()
    forget(did("viewer"))
    assert [reader.page(feed=feed)["feed"] for feed in FEEDS] == [[]] * len(FEEDS)
    assert reader.report(seen(before)) == (200, {})


def test_a_place_is_forgotten_when_it_has_not_moved_for_long(reader):
    now_us = time.time_ns() // 1000
    read_positions.advance(number_of("viewer"), FEED.rkey, 5, now_us - 10)
    assert read_positions.expire(now_us - 10) == 0
    assert read_positions.expire(now_us) == 1
    assert read_positions.position(number_of("viewer"), FEED.rkey) is None
