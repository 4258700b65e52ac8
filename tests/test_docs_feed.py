"""The feed that docs/feeds.md tells people to write works as it stands there."""

import re
from types import SimpleNamespace

import pytest

from feeds import FEEDS
from publishing.record import refusals
from server import app as wiring
from server.core.config import UNPUBLISHED_DID, load_config
from server.storage import follow_backs, viewers
from server.web import xrpc
from tests.builders import NOW_US, Stream, did, follow, number_of, post, tid, track
from tests.test_docs import ROOT

PAPER = (ROOT / "docs" / "feeds.md").read_text()


@pytest.fixture
def example():
    """The module in the paper, run as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", PAPER, re.S)
    module = {}
    exec(compile(code, "feeds/pictures.py", "exec"), module)  # noqa: S102  it is our own paper
    return module["FEED"]


def test_the_feed_in_the_paper_can_be_published_and_shows_what_it_says(
    db, lease, example, monkeypatch
):
    assert refusals(example, None) == []
    assert example.rkey not in {feed.rkey for feed in FEEDS}
    viewers.welcome(did("viewer"), NOW_US)
    track("friend", "idol")
    stream = Stream(lease.epoch)
    stream.say("viewer", follow(tid(1), "friend"), follow(tid(2), "idol"))
    stream.say("friend", follow(tid(1), "viewer"), post(tid(2), media=True), post(tid(3)))
    stream.say("idol", post(tid(4), media=True))
    # Nobody waits for a look-up that nobody does here.
    follow_backs.want(number_of("viewer"), NOW_US)
    monkeypatch.setattr(xrpc, "requester", lambda *_: SimpleNamespace(iss=did("viewer")))
    monkeypatch.setattr(wiring, "FEEDS", (*FEEDS, example))
    query = {"feed": example.uri(UNPUBLISHED_DID)}
    client = wiring.create_app(load_config({})).test_client()
    answer = client.get(f"/xrpc/{xrpc.GET_FEED_SKELETON}", query_string=query)
    shown = [item["post"] for item in answer.json["feed"]]
    assert shown == [f"at://{did('friend')}/app.bsky.feed.post/{tid(2)}"]


def test_the_paper_and_the_readme_name_every_feed():
    rkeys = [feed.rkey for feed in FEEDS]
    assert re.findall(r"^\| `([a-z-]+)` \|", PAPER, re.M) == rkeys
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"^\| \*\*[^*]+\*\* \(`([a-z-]+)`\) \|", readme, re.M) == rkeys
