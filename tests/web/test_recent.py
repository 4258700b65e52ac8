"""Which pages come out of a process's memory, and that they are their own viewer's."""

import pytest

from feeds import FEEDS
from server.app import create_app, make_recent
from server.core.config import UNPUBLISHED_DID, load_config
from server.core.metrics import WebMetrics
from server.core.syntax import FOLLOW
from server.identity.service_auth import ServiceToken
from server.storage import follow_backs, viewers
from server.web import xrpc
from tests.builders import NOW_MS, Stream, did, drop, follow, number_of, post, tid, track

FEED = {feed.rkey: feed for feed in FEEDS}
OUT_OF_MEMORY = {"following", "everything", "no-reposts", "posts-only"}


class App:
    """Whoever `name` says asks for pages."""

    def __init__(self, monkeypatch, **settings):
        app = create_app(load_config(settings))
        self.client, self.name = app.test_client(), ""
        self._reads = app.extensions["metrics"][0].page_reads
        monkeypatch.setattr(xrpc, "requester", self._requester)

    def _requester(self, _request, method, *_):
        return ServiceToken(did(self.name), "did:web:x", method, 0, 0, None)

    def page(self, name, rkey="following", limit=2, cursor=""):
        """Who wrote the posts of a page, and where it was read."""
        self.name, before = name, self.reads()
        query = {"feed": FEED[rkey].uri(UNPUBLISHED_DID), "limit": limit, "cursor": cursor}
        answer = self.client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)
        assert answer.status_code == 200, answer.data
        (place,) = (where for where, count in self.reads().items() if count > before[where])
        self.cursor = answer.json.get("cursor")
        return [entry["post"].split("/")[2] for entry in answer.json["feed"]], place

    def reads(self):
        return {place: self._reads.labels(place)._value.get() for place in ("memory", "primary")}


@pytest.fixture
def stream(db, lease):
    """Two viewers, each of whom follows one author with three posts."""
    stream = Stream(lease.epoch)
    for viewer, author in (("vera", "ann"), ("will", "ben")):
        viewers.welcome(did(viewer), 1)
        track(author)
        stream.say(viewer, follow(tid(0), author))
        posts = [post(tid(n), NOW_MS + n, tie=number_of(author)) for n in range(3)]
        stream.say(author, *posts)
    return stream


def test_first_pages_come_out_of_memory_and_others_from_the_database(stream, monkeypatch):
    app = App(monkeypatch)
    # Nobody waits for a look-up that nobody does here.
    follow_backs.want(number_of("vera"), NOW_MS)
    for rkey in FEED:
        place = "memory" if rkey in OUT_OF_MEMORY else "primary"
        assert app.page("vera", rkey)[1] == place, rkey
        assert app.page("vera", rkey, limit=1)[1] == place, rkey
    app.page("vera")
    assert app.page("vera", cursor=app.cursor) == ([did("ann")], "primary")


def test_each_viewer_gets_their_own_and_hears_at_once_whom_they_follow(stream, monkeypatch):
    app = App(monkeypatch)
    for _ in range(2):
        assert app.page("vera") == ([did("ann")] * 2, "memory")
        assert app.page("will") == ([did("ben")] * 2, "memory")
    stream.say("vera", drop(tid(0), FOLLOW), follow(tid(1), "ben"))
    assert app.page("vera") == ([did("ben")] * 2, "memory")
    stream.say("vera", drop(tid(1), FOLLOW))
    assert app.page("vera") == ([], "memory")
    assert app.page("will") == ([did("ben")] * 2, "memory")


def test_whoever_wants_no_memory_has_none(stream, monkeypatch):
    app = App(monkeypatch, RECENT_ITEMS="0")
    assert app.page("vera") == ([did("ann")] * 2, "primary")
    urls = {"DATABASE_URL": "postgresql://u@h/d", "DATABASE_REPLICA_URLS": "postgresql://u@r/d"}
    assert make_recent(load_config(urls), WebMetrics()) is None
    assert make_recent(load_config({}), WebMetrics()) is not None
