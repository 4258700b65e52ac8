"""What a new viewer sees while there is nothing to show yet."""

import time
from types import SimpleNamespace

import pytest

from feeds import FEEDS
from server.app import create_app
from server.core.config import UNPUBLISHED_DID, load_config
from server.storage import viewers
from server.storage.database import execute
from server.storage.repos import LIVE
from server.web import first_load, xrpc
from tests.builders import did

NOTICE = f"at://{did('publisher')}/app.bsky.feed.post/3mvptlgks2222"


@pytest.fixture
def ask(db, monkeypatch):
    """A viewer's request, whose follows nobody fetches; only the token is made up."""
    monkeypatch.setattr(first_load, "LONGEST_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(xrpc, "requester", lambda *_: SimpleNamespace(iss=did("viewer")))

    def get(limit, **settings):
        client = create_app(load_config(settings)).test_client()
        feed = FEEDS[0].uri(UNPUBLISHED_DID)
        answer = client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=[("feed", feed), limit])
        assert answer.status_code == 200
        return answer.json

    return get


def test_a_notice_is_shown_while_there_is_nothing_else(ask):
    assert ask(("limit", "30"), NOTICE_POST_URI=NOTICE) == {"feed": [{"post": NOTICE}]}


def test_polls_for_news_never_see_the_notice(ask):
    assert ask(("limit", "1"), NOTICE_POST_URI=NOTICE) == {"feed": []}


def test_without_a_notice_the_page_is_empty(ask):
    assert ask(("limit", "30")) == {"feed": []}


def test_a_minute_later_it_is_still_shown_while_nothing_is_there(ask):
    viewers.welcome(did("viewer"), time.time_ns() // 1000 - 61_000_000)
    assert ask(("limit", "30"), NOTICE_POST_URI=NOTICE) == {"feed": [{"post": NOTICE}]}


@pytest.mark.by_hand
def test_whoever_is_complete_and_follows_nobody_never_sees_it(ask):
    number = viewers.welcome(did("viewer"), time.time_ns() // 1000)
    execute("UPDATE repos SET state = ?, horizon_rkey = 0 WHERE author_id = ?", (LIVE, number))
    assert ask(("limit", "30"), NOTICE_POST_URI=NOTICE) == {"feed": []}
