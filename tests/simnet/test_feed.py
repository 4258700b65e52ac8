"""The AppView's part: the token, the checks, the hydration; and life on the network by seed."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from atproto import decode_jwt_payload, get_did_key, verify_jwt

from simnet import OMIT, FeedFailed, Network, SteppingClock, key_from_seed
from simnet.expected import expected_everything
from simnet.population import populate
from simnet.traffic import Traffic

SERVICE = "did:web:feeds.test"
METHOD = "app.bsky.feed.getFeedSkeleton"
REPOST_REASON = "app.bsky.feed.defs#skeletonReasonRepost"


class Generator:
    """A feed generator that answers whatever it is told to."""

    def __init__(self):
        self.status, self.answer = 200, {"feed": []}
        self.headers = None
        generator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                generator.headers = self.headers
                body = json.dumps(generator.answer).encode()
                self.send_response(generator.status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))


@pytest.fixture
def generator(net):
    generator = Generator()
    generator.thread.start()
    net.register_feed_service(SERVICE, f"http://127.0.0.1:{generator.server.server_port}")
    yield generator
    generator.server.shutdown()
    generator.server.server_close()
    generator.thread.join()


@pytest.fixture
def alice(net):
    return net.create_account("alice")


@pytest.fixture
def feed(net, alice):
    return net.publish_feed(alice, "following", SERVICE).uri


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_the_token_is_the_viewers_and_names_service_and_method(net, generator, feed, curve):
    viewer = net.create_account("viewer", curve=curve)
    net.get_feed(viewer, feed)
    token = generator.headers["Authorization"].removeprefix("Bearer ")
    key = get_did_key("Multikey", viewer.state.key.multibase)
    payload = verify_jwt(token, lambda *_: key, SERVICE)
    assert (payload.iss, payload.lxm, payload.exp - payload.iat) == (viewer.did, METHOD, 60)
    assert generator.headers["User-Agent"] == "BskyAppView"
    net.get_feed(None, feed)
    assert generator.headers["Authorization"] is None


def test_tokens_can_be_forged_field_by_field(net, alice):
    token = net.service_token(
        alice, SERVICE, METHOD, payload={"exp": OMIT, "iss": "did:plc:x"}, header={"alg": "none"}
    )
    assert '"alg":"none"' in _decoded(token.split(".")[0])
    payload = decode_jwt_payload(_decoded(token.split(".")[1]).encode())
    assert payload.iss == "did:plc:x"
    assert payload.exp is None
    other = net.service_token(alice, SERVICE, METHOD, key=key_from_seed("a stranger's"))
    with pytest.raises(Exception, match=r"[Ss]ignature"):
        verify_jwt(other, lambda *_: get_did_key("Multikey", alice.state.key.multibase), SERVICE)


def _decoded(segment):
    return base64.urlsafe_b64decode(segment + "==").decode()


def test_only_what_can_be_shown_is_shown(net, generator, feed, alice):
    bob, gone = net.create_account("bob"), net.create_account("gone")
    post, deleted = alice.post("here"), alice.post("deleted")
    repost, wrong, taken_back = bob.repost(post), bob.repost(deleted), bob.repost(post)
    bad, hidden = alice.post("undated", created_at="yesterday"), gone.post("hidden")
    alice.delete(deleted)
    bob.delete(taken_back)
    gone.deactivate()
    reposts = [
        {"post": post.uri, "reason": {"$type": REPOST_REASON, "repost": ref.uri}}
        for ref in (repost, wrong, taken_back)
    ]
    plain = [{"post": ref.uri} for ref in (post, deleted, bad, hidden)]
    generator.answer = {"feed": [*plain, *reposts], "cursor": "next"}
    page = net.get_feed(bob, feed)
    assert [(item.text, item.author, item.reposted_by) for item in page.items] == [
        ("here", "alice.test", None),
        ("here", "alice.test", "bob.test"),
    ]
    assert page.cursor == "next"
    gone.activate()
    assert len(net.get_feed(bob, feed).items) == 3
    assert net.get_feed(bob, feed, cursor="next").cursor is None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"feed": [], "cursor": None},
        {"feed": [{"post": "https://example.com"}]},
        {"feed": [{"post": "at://did:plc:x/app.bsky.feed.post/y", "reason": None}]},
    ],
)
def test_one_wrong_field_loses_the_page(net, generator, feed, alice, answer):
    generator.answer = answer
    with pytest.raises(FeedFailed, match="InvalidFeedResponse"):
        net.get_feed(alice, feed)


def test_errors_of_the_generator_come_through_but_500(net, generator, feed, alice):
    for status, shown in ((400, 400), (401, 401), (429, 429), (500, 502), (503, 503)):
        generator.status, generator.answer = status, {"error": "Oh", "message": "no"}
        with pytest.raises(FeedFailed, match="Oh") as failed:
            net.get_feed(alice, feed)
        assert failed.value.status == shown


def frames_of(seed):
    clock = SteppingClock(1_760_000_000_000_000)
    network = Network(seed, pds=2, clock=clock)
    traffic = Traffic(network, seed, count=12)
    traffic.write_history(60, days=2)
    for _ in range(200):
        traffic.step()
    network.stop()
    stream = network.relay.stream.log
    return stream.read(stream.first_position, len(stream))


def test_the_same_seed_gives_the_same_bytes():
    first = frames_of(1)
    assert len(first) > 200
    assert first == frames_of(1)
    assert first != frames_of(2)


def test_a_crowd_uses_every_kind_of_change():
    network = Network(3)
    traffic = Traffic(network, 3)
    kinds = {traffic.step().kind for _ in range(400)}
    network.stop()
    assert kinds == {
        *("post", "reply", "repost", "quote", "like", "delete", "edit", "follow", "unfollow")
    }
    posts = [record for record in network.records("app.bsky.feed.post") if record.emitted_us]
    assert len(posts) > 100


def test_a_large_population_stands_in_seconds():
    network = Network(1, pds=3)
    people = populate(network, 500)
    network.stop()
    assert sum(1 for _ in network.records()) > 19_000
    assert len(expected_everything(network.world, people[0].did)) > 150
    assert len(network.relay.stream.log) == 0
