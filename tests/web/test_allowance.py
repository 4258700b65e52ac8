"""A request asks the database nothing more once nobody waits for its answer."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from feeds import FEEDS
from server.app import create_app
from server.core.config import UNPUBLISHED_DID, load_config
from server.core.feed import FeedCursor
from server.core.projection import sort_key
from server.storage import shared_readers as shared_readers_module
from server.storage import viewers
from server.storage.allowance import OutOfTimeError, allowed
from server.storage.database import (
    DatabaseError,
    close_database,
    current,
    execute,
    is_sqlite,
    release,
    shared_readers,
    value,
    write_transaction,
)
from server.storage.opening import patiently
from server.storage.prepared import prepared_rows
from server.storage.spare_writes import SpareWrites
from server.web import feed_check, pages, scrape, standing, xrpc
from tests.builders import NOW_MS, Stream, did, follow, make_live, post, tid

PAGE_SECONDS, STATEMENT_SECONDS = 0.35, 0.3
# From the look at the clock to the statement, on a busy machine.
MARGIN_SECONDS = 0.2
OPERATOR = "a-word-of-the-operator"
MEDIA = next(feed for feed in FEEDS if feed.rkey == "media")


@pytest.fixture
def client(db, lease, monkeypatch):
    """A viewer who asks for pages of a feed; only the token is made up."""
    viewers.welcome(did("viewer"), time.time_ns() // 1000 - 3_600_000_000)
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(0), "ann"), *(post(tid(n), media=True) for n in range(1, 9)))
    make_live("viewer", "ann", epoch=lease.epoch, rev=1)
    monkeypatch.setattr(xrpc, "requester", lambda *_: SimpleNamespace(iss=did("viewer")))
    return create_app(load_config({"ADMIN_TOKEN": OPERATOR})).test_client()


def ask(client, feed, cursor=""):
    query = {"feed": feed.uri(UNPUBLISHED_DID), "limit": 3, "cursor": cursor}
    return client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)


@pytest.fixture
def slow(client, monkeypatch):
    """Each statement takes a while; when each of them began."""
    began = []

    def slowly(run):
        def wait_and_run(*args, **kwargs):
            began.append(time.monotonic())
            time.sleep(STATEMENT_SECONDS)
            return run(*args, **kwargs)

        return wait_and_run

    monkeypatch.setattr(current(), "execute_sql", slowly(current().execute_sql))
    if is_sqlite():
        monkeypatch.setattr(shared_readers(), "rows", slowly(shared_readers().rows))
    return began


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
@pytest.mark.parametrize(
    "cursor", ["", FeedCursor(sort_key(NOW_MS + 1, 0)).encode()], ids=["first", "later"]
)
def test_what_a_page_asks_is_bounded_as_a_whole(client, slow, monkeypatch, feed, cursor):
    monkeypatch.setattr(xrpc, "PAGE_SECONDS", PAGE_SECONDS)
    before = time.monotonic()
    answer = ask(client, feed, cursor)
    assert answer.status_code == 503
    assert (answer.json["error"], answer.headers["Retry-After"]) == ("ServiceUnavailable", "5")
    assert max(slow) < before + PAGE_SECONDS + MARGIN_SECONDS
    assert number_of_errors(client) == 1


def number_of_errors(client):
    (metric,) = client.application.extensions["metrics"][0].errors.collect()
    return sum(one.value for one in metric.samples if one.name.endswith("_total"))


def test_whoever_comes_next_has_all_the_time_again(client, monkeypatch):
    usual_s = xrpc.PAGE_SECONDS
    monkeypatch.setattr(xrpc, "PAGE_SECONDS", -1.0)
    assert ask(client, MEDIA).status_code == 503
    assert value("SELECT 1") == 1
    monkeypatch.setattr(xrpc, "PAGE_SECONDS", usual_s)
    assert ask(client, MEDIA).status_code == 200


def test_a_late_request_makes_nobody_forget_anything(client, monkeypatch):
    recent = client.application.extensions["gapless"].recent
    following = FEEDS[0]
    assert ask(client, following).status_code == 200
    moment = recent.moment
    # So that a look is to be taken.
    execute("UPDATE viewers SET last_us = last_us + 1")
    monkeypatch.setattr(xrpc, "PAGE_SECONDS", -1.0)
    assert ask(client, following).status_code == 503
    monkeypatch.undo()
    with allowed(9.0):
        recent.look()
    assert recent.moment == moment


@pytest.mark.parametrize(
    ("path", "bound", "status"),
    [
        ("/status.json", (standing, "LOOK_SECONDS"), 503),
        ("/check?account=ann.test", (feed_check, "COUNT_SECONDS"), 503),
        ("/metrics", (scrape, "LOOK_SECONDS"), 200),
    ],
)
def test_what_other_pages_ask_is_bounded_as_a_whole(client, slow, monkeypatch, path, bound, status):
    monkeypatch.setattr(*bound, PAGE_SECONDS)
    checks = client.application.extensions["gapless"].checks
    # As if ann had a heart for one of our feeds; and nobody looks how things stand beside that.
    monkeypatch.setattr(checks, "_ask", lambda _: feed_check._Kept(0, did("viewer")))
    if path.startswith("/check"):
        monkeypatch.setattr(pages, "_standing", lambda: None)
    before = time.monotonic()
    answer = client.get(path, headers={"Authorization": "Bearer " + OPERATOR})
    assert answer.status_code == status
    assert len(slow) > 1
    # In PostgreSQL, the first and the last say how long a statement may take.
    settings = 0 if is_sqlite() or path != "/status.json" else 1
    assert slow[-1 - settings] < before + PAGE_SECONDS + (1 + settings) * MARGIN_SECONDS
    assert value("SELECT 1") == 1


@pytest.mark.usefixtures("postgresql")
def test_a_look_that_takes_too_long_leaves_its_patience_to_nobody():
    before = value("SHOW statement_timeout")
    with pytest.raises(OutOfTimeError), patiently(7_000), allowed(-1.0):
        value("SELECT 1")
    assert value("SHOW statement_timeout") == before


@pytest.mark.usefixtures("db")
def test_once_it_is_over_nothing_begins():
    asking = (
        lambda: value("SELECT 1"),
        lambda: execute("UPDATE viewers SET last_us = 0"),
        lambda: prepared_rows("SELECT :one", {"one": 1}),
        lambda: write_transaction().__enter__(),
    )
    with allowed(-1.0):
        for ask_something in asking:
            with pytest.raises(OutOfTimeError):
                ask_something()
        with ThreadPoolExecutor(1) as others:
            assert others.submit(value, "SELECT 1").result() == 1
            others.submit(close_database if is_sqlite() else release)
    assert value("SELECT 1") == 1


@pytest.mark.usefixtures("db")
def test_what_has_begun_to_be_written_is_written():
    with allowed(0.1):
        with write_transaction():
            time.sleep(0.2)
            number = viewers.welcome(did("viewer"), 1)
            assert prepared_rows("SELECT :one", {"one": number}) == [(number,)]
        with pytest.raises(OutOfTimeError):
            viewers.find(did("viewer"))
    assert viewers.find(did("viewer")).number == number


@pytest.mark.usefixtures("db")
def test_that_it_is_over_does_not_say_that_nothing_can_be_written():
    writes = SpareWrites()
    with allowed(-1.0):
        assert writes.attempt("a word", lambda: value("SELECT 7")) is None
    assert writes.attempt("a word", lambda: 7) == 7


@pytest.mark.usefixtures("sqlite")
def test_a_shared_reader_ends_with_it():
    endless = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    before = time.monotonic()
    with allowed(0.3), pytest.raises(DatabaseError, match="interrupted"):
        prepared_rows(endless, {})
    assert time.monotonic() - before < shared_readers_module.STATEMENT_SECONDS / 2
