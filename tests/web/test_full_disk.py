"""Where nothing can be written, known viewers are shown what there is: every page of every feed."""

import logging
import time
from types import SimpleNamespace

import pytest

from feeds import FEEDS
from server.app import create_app
from server.core.config import UNPUBLISHED_DID, load_config
from server.identity.cache import IdentityCache
from server.identity.service_auth import ServiceToken
from server.storage import authors, spare_writes, viewers
from server.storage.database import DatabaseError
from server.storage.opening import TURN_SECONDS
from server.storage.spare_writes import REST_SECONDS, SpareWrites
from server.web import first_load, xrpc
from tests.builders import Stream, did, follow, make_live, post, tid, track
from tests.identity.builders import NOW_S, make_document
from tests.identity.conftest import FakeDirectory
from tests.web.test_sightings import refuse_writes

POSTS = 9


@pytest.fixture
def client(db, lease, monkeypatch):
    """Asks for a viewer of yesterday, who follows ann and is followed by her; tokens are made up.

    Nobody has asked for these feeds before.
    """
    now_us = time.time_ns() // 1000
    viewers.welcome(did("viewer"), now_us - 86_400_000_000)
    track("ann")
    make_live("viewer", "ann")
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(1), "ann"))
    stream.say("ann", follow(tid(2), "viewer"))
    posts = (post(tid(n), now_us // 1000 - 1000 * n, media=True) for n in range(POSTS))
    stream.say("ann", *posts)
    token = ServiceToken(did("viewer"), "did:web:x", "", 0, 0, None)
    monkeypatch.setattr(xrpc, "requester", lambda *_: token)
    client = create_app(load_config({})).test_client()
    refuse_writes()
    yield client
    refuse_writes(False)


def pages(client, feed):
    """The posts of each page."""
    found, cursor = [], ""
    while cursor is not None:
        query = {"feed": feed.uri(UNPUBLISHED_DID), "limit": 4, "cursor": cursor}
        answer = client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)
        assert answer.status_code == 200, answer.json
        found.append([item["post"].rpartition("/")[2] for item in answer.json["feed"]])
        cursor = answer.json.get("cursor")
    return found


def test_every_page_of_every_feed_is_shown_at_once(client, monkeypatch, caplog):
    monkeypatch.setattr(first_load.FirstLoads, "wait_until", lambda *_: pytest.fail("it waits"))
    newest_first = [tid(n) for n in range(POSTS)]
    with caplog.at_level(logging.WARNING):
        for feed in FEEDS:
            posts = newest_first[::-1] if feed.oldest_first else newest_first
            assert pages(client, feed) == [posts[:4], posts[4:8], posts[8:]], feed.rkey
    # Who is here; what else there was to be written was not tried so soon after.
    assert caplog.text.count("cannot be written down") == 1


def test_after_a_write_that_failed_none_is_tried_for_a_while(monkeypatch):
    clock, tried = [1000.0], []
    monkeypatch.setattr(spare_writes, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def wait_and_fail():
        tried.append(clock[0])
        clock[0] += TURN_SECONDS
        raise DatabaseError("locked")

    writes = SpareWrites()
    # One answer has all of these to write, and is to be there within the AppView's 5 s.
    for what in ("who is here", "whose mutuals are to be looked up", "the same again"):
        assert writes.attempt(what, wait_and_fail) is None
    assert (tried, clock) == ([1000.0], [1000.0 + TURN_SECONDS])
    clock[0] += REST_SECONDS
    assert writes.attempt("who is here", lambda: 7) == 7
    assert writes.attempt("who is here", lambda: 8) == 8


def test_after_an_identity_that_could_not_be_saved_the_page_writes_nothing_else(db, monkeypatch):
    tried = []

    def fail(what):
        tried.append(what)
        raise DatabaseError("locked")

    now_us = time.time_ns() // 1000
    viewers.welcome(did("viewer"), now_us - 86_400_000_000)
    service = create_app(load_config({})).extensions["gapless"]
    directory = FakeDirectory()
    directory.documents[did("viewer")] = make_document(did("viewer"))
    monkeypatch.setattr(service.identities, "_directory", directory)
    monkeypatch.setattr(authors, "save_identity", lambda *_: fail("the identity"))
    monkeypatch.setattr(viewers, "touch", lambda *_: fail("who is here"))
    # As one request does, which is to be answered within the AppView's 5 s.
    assert service.identities.get(did("viewer")).did == did("viewer")
    assert service.sightings.see(did("viewer"), now_us).first_us == now_us - 86_400_000_000
    assert tried == ["the identity"]


def test_whose_identity_is_old_is_known_by_what_the_directory_says(db):
    directory = FakeDirectory()
    authors.author_ids([did("viewer")])
    authors.save_identity(did("viewer"), None, "https://old.example.com", "zOld", NOW_S)
    directory.documents[did("viewer")] = make_document(did("viewer"))
    refuse_writes()
    cache = IdentityCache(directory, authors, lambda: NOW_S * 1_000_000)
    for _ in range(2):
        assert cache.get(did("viewer")).pds_url == "https://pds.example.com"
    assert len(directory.asked) == 1
    refuse_writes(False)
