"""The Jetstream takes the filters that the real one takes, and refuses what it refuses."""

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simnet import Network
from tests.builders import did

POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"


@pytest.fixture
def net():
    with Network(seed=9, jetstreams=1) as network:
        yield network


@pytest.fixture
def jetstream(net):
    return net.jetstreams[0]


def update(collections=(), dids=()):
    payload = {"wantedCollections": list(collections), "wantedDids": list(dids)}
    return json.dumps({"type": "options_update", "payload": payload})


def is_read(socket):
    """Wait until the server has taken in what was said."""
    return socket.ping().wait(5)


def told(socket):
    event = json.loads(socket.recv(timeout=5))
    return event["did"], event["kind"], event.get("commit", {}).get("collection")


def test_an_update_replaces_all_options_before_its_ping_is_answered(net, jetstream, subscribe):
    alice, bob = net.create_account("alice"), net.create_account("bob")
    with subscribe(f"{jetstream.v1_url}?wantedCollections={POST}") as socket:
        socket.send(update([LIKE], [alice.did]))
        assert is_read(socket)
        post = bob.post("of somebody else")
        alice.post("of another collection")
        alice.like(post)
        assert told(socket) == (alice.did, "commit", LIKE)
        # Empty lists mean everything.
        socket.send(update())
        assert is_read(socket)
        bob.post("now")
        assert told(socket) == (bob.did, "commit", POST)


def test_accounts_pass_the_filter_of_collections_and_not_that_of_dids(net, jetstream, subscribe):
    alice, bob = net.create_account("alice"), net.create_account("bob")
    query = f"wantedCollections={LIKE}&wantedDids={bob.did}"
    with subscribe(f"{jetstream.v1_url}?{query}") as socket:
        alice.emit_identity()
        bob.post("unwanted")
        bob.emit_identity()
        assert told(socket) == (bob.did, "identity", None)


def test_who_has_to_greet_is_told_nothing_before(net, jetstream, subscribe):
    alice, bob = net.create_account("alice"), net.create_account("bob")
    with subscribe(f"{jetstream.v1_url}?requireHello=true") as socket:
        bob.post("before it said that it does not want him")
        alice.post("one")
        assert is_read(socket)
        socket.send(update(dids=[alice.did]))
        assert told(socket) == (alice.did, "commit", POST)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("no JSON", 1007),
        ('{"type":"options_update"}', 1007),
        (update(dids=["alice.test"]), 1008),
        (update(dids=[did(f"a{number}") for number in range(10_001)]), 1008),
    ],
)
def test_what_is_no_update_ends_the_connection(jetstream, subscribe, said, code):
    with subscribe(jetstream.v1_url) as socket:
        socket.send(said)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert closed.value.rcvd.code == code


def test_version_2_takes_a_filter_only_with_the_connection(net, jetstream, subscribe):
    alice, bob = net.create_account("alice"), net.create_account("bob")
    with subscribe(f"{jetstream.v2_url}?dids={bob.did}") as socket:
        alice.post("unwanted")
        bob.post("wanted")
        assert json.loads(socket.recv(timeout=5))["payload"]["did"] == bob.did
        socket.send(update())
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
    with (
        pytest.raises(InvalidStatus),
        subscribe(f"{jetstream.v2_url}?wantedDids={bob.did}"),
    ):
        pass
