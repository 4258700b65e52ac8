"""What a new viewer is told while there is nothing to show yet, and who is told nothing."""

import dataclasses
import time
from types import SimpleNamespace

import pytest

from feeds import FEEDS, mutuals
from server.app import create_app
from server.core.config import UNPUBLISHED_DID, load_config
from server.storage import follow_backs, jobs, viewers
from server.storage.database import execute
from server.web import first_load, xrpc
from tests.builders import Stream, did, follow, job_of, make_live, post, tid, track

NOTICE = f"at://{did('publisher')}/app.bsky.feed.post/3mvptlgks2222"
EMPTY = (200, {"feed": []})
SHOWN = (200, {"feed": [{"post": NOTICE}]})
BOTH = pytest.mark.parametrize("notice", ["", NOTICE], ids=["without", "with"])
NOT_READY = (503, {"error": "FeedNotReady", "message": first_load.NOT_READY})


@pytest.fixture
def ask(db, monkeypatch):
    """A viewer's request, whose follows nobody fetches; only the token is made up."""
    monkeypatch.setattr(first_load, "LONGEST_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(xrpc, "requester", lambda *_: SimpleNamespace(iss=did("viewer")))

    def get(notice="", feed=FEEDS[0], **query):
        client = create_app(load_config({"NOTICE_POST_URI": notice})).test_client()
        query = {"feed": feed.uri(UNPUBLISHED_DID), "limit": 30} | query
        answer = client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "5"
        return answer.status_code, answer.json

    return get


def came(seconds_ago):
    """A viewer who was first seen then; their number."""
    return viewers.welcome(did("viewer"), time.time_ns() // 1000 - seconds_ago * 1_000_000)


def test_a_notice_is_shown_while_there_is_nothing_else(ask):
    assert ask(NOTICE) == SHOWN


def test_without_a_notice_an_error_says_that_the_feed_is_not_ready(ask):
    assert ask() == NOT_READY


@BOTH
def test_polls_for_news_and_later_pages_are_told_nothing(ask, notice):
    assert ask(notice, limit=1) == EMPTY
    assert ask(notice, cursor="1-5") == EMPTY


def test_a_minute_later_it_is_still_told_while_nothing_is_there(ask):
    came(61)
    assert ask(NOTICE) == SHOWN
    assert ask() == NOT_READY


def test_after_ten_minutes_of_nothing_the_page_is_empty_but_for_a_notice(ask):
    came(first_load.PATIENCE_US // 1_000_000 + 1)
    assert ask() == EMPTY
    assert ask(NOTICE) == SHOWN


def test_who_came_when_the_clock_was_ahead_is_not_told_to_wait_until_it_has_caught_up(ask):
    came(-86_400)
    assert ask() == EMPTY


@BOTH
def test_whoever_is_complete_and_follows_nobody_is_told_nothing(ask, lease, notice):
    came(0)
    make_live("viewer", epoch=lease.epoch)
    assert ask(notice) == EMPTY


@BOTH
def test_nobody_is_told_to_wait_for_follows_who_have_nothing_or_cannot_be_fetched(
    ask, lease, notice
):
    came(0)
    Stream(lease.epoch).say("viewer", follow(tid(0), "ann"), follow(tid(1), "ben"))
    make_live("viewer", "ann", epoch=lease.epoch)
    assert ask(notice) == (SHOWN if notice else NOT_READY)
    jobs.fail(job_of("ben", lease.epoch), "the PDS is gone", 2**62)
    assert ask(notice) == EMPTY


def test_what_is_there_is_shown_whatever_is_still_to_come(ask, lease):
    came(0)
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(0), "ann"), follow(tid(1), "ben"))
    stream.say("ann", post(tid(2)))
    make_live("viewer", "ann", epoch=lease.epoch)
    assert ask() == (200, {"feed": [{"post": f"at://{did('ann')}/app.bsky.feed.post/{tid(2)}"}]})


def test_what_comes_while_it_is_judged_whether_anything_will_is_shown(ask, lease, monkeypatch):
    came(61)
    track("ann")
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(0), "ann"))

    def readiness(number):
        stream.say("ann", post(tid(2)))
        done = dataclasses.replace(really(number), are_follows_known=True)
        return dataclasses.replace(done, with_first_page=done.total)

    really = viewers.readiness
    monkeypatch.setattr(viewers, "readiness", readiness)
    status, body = ask()
    assert (status, len(body["feed"])) == (200, 1)


def test_whoever_asks_for_mutuals_is_told_to_wait_for_a_minute_at_most(ask, lease):
    number = came(86_400)
    make_live("viewer", epoch=lease.epoch)
    assert ask(feed=mutuals.FEED) == NOT_READY
    assert ask(feed=FEEDS[0]) == EMPTY
    # Nobody has looked them up for so long: nobody may ever.
    before = "UPDATE viewers SET mutuals_due_us = mutuals_due_us - ?"
    execute(before, (follow_backs.HOPELESS_US,))
    assert ask(feed=mutuals.FEED) == EMPTY
    execute(before, (-follow_backs.HOPELESS_US,))
    assert ask(feed=mutuals.FEED) == NOT_READY
    now_us = time.time_ns() // 1000
    follow_backs.done(number, now_us, now_us)
    assert ask(feed=mutuals.FEED) == EMPTY
