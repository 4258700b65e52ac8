"""subscribeRepos: what the official SDK reads, the chains, the cursors, the faults of a stream."""

import time

import libipld
import pytest
from atproto import CAR
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from simnet import Network, SteppingClock, Window, Write
from simnet.relay import FIRST_SEQ

POST = "app.bsky.feed.post"


def wait_until(claim, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def test_a_new_account_is_told_as_the_official_server_does(net, subscribe, events):
    with subscribe(net.relay.url) as socket:
        wait_until(lambda: net.relay.stream.readers == 1)
        alice = net.create_account("alice")
        told = events(socket, 4)
    assert [kind for kind, _ in told] == ["#identity", "#account", "#commit", "#sync"]
    assert told[0][1].handle == "alice.test"
    assert told[1][1].active is True
    assert told[2][1].since is None
    assert told[3][1].rev == told[2][1].rev == alice.state.repo.head.rev


def test_chains_of_rev_and_data_hold_through_every_kind_of_change(net, subscribe, events):
    alice, bob = net.create_account("alice"), net.create_account("bob", pds=1, curve="p256")
    post = alice.post("first")
    bob.repost(post)
    bob.post("an answer", reply_to=post)
    alice.edit(post, text="changed")
    alice.apply([Write("delete", POST, post.rkey), Write("create", POST, post.rkey, {"text": "2"})])
    alice.migrate(1)
    alice.post("from the other host")
    count = net.relay.stream.last_seq - FIRST_SEQ + 1
    with subscribe(net.relay.url, 0) as socket:
        told = events(socket, count)
    assert [message.seq for _, message in told] == list(range(FIRST_SEQ, FIRST_SEQ + count))
    seen = {}
    for _, message in (pair for pair in told if pair[0] == "#commit"):
        blocks = {str(cid): block for cid, block in CAR.from_bytes(message.blocks).blocks.items()}
        commit = blocks[str(message.commit)]
        since, data = seen.get(message.repo, (None, None))
        assert message.since == since
        assert (message.prev_data and str(message.prev_data)) == data
        assert commit["rev"] == message.rev
        seen[message.repo] = (commit["rev"], libipld.encode_cid(commit["data"]))
        written = {op.path: op for op in message.ops}
        assert all(str(op.cid) in blocks for op in written.values() if op.cid)
    assert seen.keys() == {alice.did, bob.did}


def test_a_long_message_arrives_whole(net, subscribe, events):
    alice = net.create_account("alice")
    writes = [Write("create", POST, None, {"text": f"{number:300}"}) for number in range(150)]
    alice.apply(writes)
    with subscribe(net.relay.url, net.relay.stream.last_seq - 1) as socket:
        ((kind, message),) = events(socket, 1)
    assert kind == "#commit"
    assert len(message.blocks) > 40_000
    assert len(message.ops) == 150


def test_a_cursor_replays_what_comes_after_it(net, subscribe, events):
    alice = net.create_account("alice")
    cursor = net.relay.stream.last_seq
    alice.post("one")
    alice.post("two")
    with subscribe(net.relay.url, cursor) as socket:
        assert [message.seq for _, message in events(socket, 2)] == [cursor + 1, cursor + 2]
        alice.post("three")
        assert events(socket, 1)[0][1].seq == cursor + 3


def test_a_relay_says_nothing_about_a_cursor_it_cannot_serve(net, subscribe, events):
    alice = net.create_account("alice")
    net.relay.stream.forget(keep=1)
    with subscribe(net.relay.url, FIRST_SEQ) as socket:
        assert events(socket, 1)[0][1].seq == net.relay.stream.last_seq
    with subscribe(net.relay.url, FIRST_SEQ + 1_000_000) as socket:
        wait_until(lambda: net.relay.stream.readers == 1)
        alice.post("live")
        assert events(socket, 1)[0][1].seq == net.relay.stream.last_seq


def test_a_pds_says_what_is_wrong_with_a_cursor(net, subscribe, take, events):
    alice = net.create_account("alice")
    with subscribe(alice.pds.stream_url, 0) as socket:
        assert events(socket, 1)[0][0] == "#identity"
    alice.pds.stream.forget(keep=1)
    with subscribe(alice.pds.stream_url, 0) as socket:
        told = events(socket, 2)
        assert told[0][0] == "#info"
        assert told[0][1].name == "OutdatedCursor"
        assert told[1][1].seq == alice.pds.stream.last_seq
    with subscribe(alice.pds.stream_url, 999) as socket:
        assert b"FutureCursor" in take(socket, 1)[0]
        with pytest.raises(ConnectionClosedError):
            socket.recv(timeout=5)


def test_a_cursor_that_is_no_number_is_refused(net, subscribe):
    with pytest.raises(InvalidStatus, match="400"), subscribe(f"{net.relay.url}?cursor=x"):
        pass


def test_the_window_is_bounded_by_count_and_by_age(subscribe, events):
    clock = SteppingClock(1_760_000_000_000_000)
    with Network(clock=clock, window=Window(count=3, age_s=60)) as net:
        alice = net.create_account("alice")
        assert len(net.relay.stream.log) == 3
        clock.advance(61)
        alice.post("only this one is young enough")
        with subscribe(net.relay.url, 0) as socket:
            assert events(socket, 1)[0][1].seq == net.relay.stream.last_seq


def test_strange_frames_come_live_or_stay_in_the_stream(net, subscribe, take):
    alice = net.create_account("alice")
    with subscribe(net.relay.url) as socket:
        wait_until(lambda: net.relay.stream.readers == 1)
        net.relay.stream.inject("text", stored=False)
        assert isinstance(take(socket, 1)[0], str)
        cursor = net.relay.stream.last_seq
        net.relay.stream.inject("garbage")
        net.relay.stream.inject("unknown-type")
        alice.post("after")
        here = take(socket, 3)
    with subscribe(net.relay.url, cursor) as socket:
        assert take(socket, 3) == here
    assert b"#tomorrow" in here[1]
    names = ("stream-text", "stream-garbage", "stream-unknown-type")
    assert [net.faults.fired[name] for name in names] == [1, 1, 1]


def test_connections_end_by_goodbye_by_reset_and_for_slowness(net, subscribe, take):
    for how, ending in (("close", ConnectionClosedOK), ("reset", ConnectionClosedError)):
        with subscribe(net.relay.url) as socket:
            wait_until(lambda: net.relay.stream.readers == 1)
            assert net.relay.stream.cut(how) == 1
            with pytest.raises(ending):
                socket.recv(timeout=5)
        wait_until(lambda: net.relay.stream.readers == 0)
        assert net.faults.fired[f"stream-{how}"] == 1
    with subscribe(net.relay.url) as socket:
        wait_until(lambda: net.relay.stream.readers == 1)
        net.relay.stream.cut("too-slow")
        assert b"ConsumerTooSlow" in take(socket, 1)[0]


def test_a_stalled_stream_is_silent_and_then_catches_up(net, subscribe, events):
    alice = net.create_account("alice")
    with subscribe(net.relay.url) as socket:
        wait_until(lambda: net.relay.stream.readers == 1)
        net.relay.stream.stall()
        alice.post("unheard")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.05)
        net.relay.stream.resume()
        assert events(socket, 1)[0][1].seq == net.relay.stream.last_seq


def test_a_renumbered_stream_starts_low_and_has_no_past(net, subscribe, events):
    alice = net.create_account("alice")
    net.relay.stream.renumber(first_seq=5)
    alice.post("a new age")
    with subscribe(net.relay.url, 0) as socket:
        assert events(socket, 1)[0][1].seq == 5


def test_events_are_lost_doubled_and_spoiled_as_planned(net, subscribe, events):
    alice = net.create_account("alice")
    cursor = net.relay.stream.last_seq
    net.faults.arm("stream-drop", times=2, every=2)
    net.faults.arm("stream-duplicate", where={"repo": alice.did})
    net.faults.arm("stream-too-big", where={"kind": "#commit"})
    for number in range(5):
        alice.post(str(number))
    with subscribe(net.relay.url, cursor) as socket:
        told = [message for _, message in events(socket, 4)]
    assert [message.seq - cursor for message in told] == [1, 1, 3, 5]
    assert told[0].too_big
    names = ("stream-drop", "stream-duplicate", "stream-too-big")
    assert [net.faults.fired[name] for name in names] == [2, 1, 1]


def test_what_the_relay_holds_the_pds_has_already(net, get):
    alice = net.create_account("alice")
    before = net.relay.stream.last_seq
    net.relay.hold()
    alice.post("on its way")
    _, latest, _ = get(alice.pds.url, "com.atproto.sync.getLatestCommit", did=alice.did)
    assert latest["rev"] == alice.state.repo.head.rev
    assert net.relay.stream.last_seq == before
    assert net.relay.release() == 1
    assert net.relay.stream.last_seq == before + 1


def test_events_of_a_host_never_overtake_each_other(net):
    alice, bob = net.create_account("alice"), net.create_account("bob", pds=1)
    before = net.relay.stream.last_seq
    net.relay.hold(pds=0)
    alice.post("on its way")
    net.relay.hold(pds=1)
    alice.post("after it")
    bob.post("on its way too")
    assert net.relay.stream.last_seq == before
    assert net.relay.release() == 3
    alice.post("free again")
    assert net.relay.stream.last_seq == before + 4


def test_the_relay_does_not_believe_a_host_that_was_left(net):
    alice = net.create_account("alice")
    alice.migrate(1)
    before = net.relay.stream.last_seq
    alice.delete_at(0)
    assert net.relay.stream.last_seq == before
    assert net.relay.refused["not the current host"] == 2


def test_a_replay_is_faster_than_any_reader_we_have(net, subscribe, take):
    alice = net.create_account("alice")
    for number in range(1000):
        alice.post(str(number))
    with subscribe(net.relay.url, 0) as socket:
        began = time.monotonic()
        take(socket, 1000)
    assert time.monotonic() - began < 0.2
