"""Holes in what we are told: each is noticed, written down, and closed by fetching again."""

import signal

import pytest

from simnet import FeedFailed, Network, Write
from simnet.clock import wall_clock_us
from tests.system.databases import PostgresDatabase, SqliteFile, gap_reasons, has_cursor
from tests.system.truth import Reader
from tests.system.waiting import wait_until

POST = "app.bsky.feed.post"
LISTING = "com.atproto.repo.listRecords"
MINUTE_US = 60_000_000


class Clock:
    """The network's clock, which runs behind and can leap towards now."""

    def __init__(self):
        self.behind_us = 60 * MINUTE_US

    def __call__(self):
        return wall_clock_us() - self.behind_us


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def net(clock):
    with Network(seed=21, pds=2, clock=clock) as network:
        yield network


class Stage:
    """A running service, a viewer, and two whom he follows."""

    def __init__(self, net, database, make_service):
        self.net, self.database = net, database
        publisher = net.create_account("publisher")
        self.service = make_service(net, database, environ={"FEED_PUBLISHER_DID": publisher.did})
        self.reader = Reader(net, self.service, publisher)
        self.alice, self.bob = net.create_account("alice"), net.create_account("bob", pds=1)
        self.viewer = net.create_account("viewer")
        for account in (self.alice, self.bob):
            account.post("at first")
            self.viewer.follow(account, emit=False)
        self.service.start()
        self.settle()
        self.alice.post("the first event")
        self.settle()
        wait_until(lambda: has_cursor(database), 10, "a place in the stream")

    def settle(self, seconds=20):
        return self.reader.settle(self.viewer, seconds=seconds, database=self.database)

    def listings(self):
        return [pds.requests[LISTING] for pds in self.net.pds]


@pytest.fixture
def stage(net, tmp_path, make_service):
    stage = Stage(net, SqliteFile(tmp_path / "feeds.db"), make_service)
    yield stage
    assert stage.service.stop() == 0
    assert "Traceback" not in stage.service.log_path.read_text(), stage.service.log_text()


def test_an_event_that_was_lost_is_made_up_for_when_its_author_writes_again(stage):
    stage.net.faults.arm("stream-drop", times=2, where={"kind": "#commit"})
    lost = stage.alice.post("lost")
    stage.alice.delete(stage.alice.post("lost as well"), emit=False)
    stage.bob.post("lost, of bob")
    assert stage.net.faults.fired["stream-drop"] == 2
    before = stage.listings()
    stage.alice.post("and on")
    wait_until(lambda: lost.uri in stage.reader.read(stage.viewer).keys, 10, "alice is whole")
    assert gap_reasons(stage.database) == {"chain"}
    # Nobody else is fetched for it.
    assert stage.listings()[1] == before[1]
    stage.bob.post("and on")
    stage.settle()


def test_follows_of_the_viewer_survive_what_spoils_their_events(stage):
    faults = ("stream-drop", "stream-too-big", "stream-no-blocks", "stream-duplicate")
    for number, fault in enumerate(faults):
        pair = [stage.net.create_account(f"{who}{number}") for who in ("carol", "dave")]
        for account in pair:
            account.post("hello")
        stage.net.faults.arm(fault, where={"repo": stage.viewer.did, "kind": "#commit"})
        stage.viewer.follow(pair[0])
        assert stage.net.faults.fired[fault] == 1
        stage.viewer.follow(pair[1])
        assert stage.settle() == 3 + 2 * (number + 1)


def test_a_cursor_older_than_what_the_relay_keeps_opens_a_gap(stage, clock):
    stage.service.kill()
    deleted = stage.bob.post("not for long")
    stage.alice.post("nobody will replay this")
    stage.bob.delete(deleted)
    stage.viewer.unfollow(stage.bob)
    stage.net.relay.stream.forget()
    clock.behind_us -= 2 * MINUTE_US
    stage.service.start()
    stage.net.create_account("stranger").post("the first event after the hole")
    assert stage.settle() == 3
    assert gap_reasons(stage.database) == {"cursor outdated"}
    assert stage.net.faults.fired["stream-forget"] == 1


def test_an_account_that_came_back_in_a_hole_is_shown_again(stage, clock):
    stage.alice.deactivate()
    stage.bob.deactivate()
    assert stage.settle() == 0
    stage.service.kill()
    stage.alice.activate()
    stage.net.relay.stream.forget()
    clock.behind_us -= 2 * MINUTE_US
    stage.service.start()
    stage.net.create_account("stranger").post("the first event after the hole")
    wait_until(lambda: gap_reasons(stage.database), 10, "the hole is noticed")
    assert stage.settle() == 2
    assert stage.net.faults.fired["stream-forget"] == 1
    # One event that is lost on the way, and no hole of everybody to make up for it.
    stage.net.faults.arm("stream-drop", where={"kind": "#account"})
    stage.bob.activate()
    assert stage.net.faults.fired["stream-drop"] == 1
    stage.bob.post("here I am")
    assert stage.settle() == 4


def test_a_relay_that_lost_its_numbers_opens_a_gap(stage):
    stage.service.kill()
    stage.alice.post("nobody will replay this")
    stage.net.relay.stream.renumber(first_seq=5)
    stage.service.launch()
    # Nobody is told the past of a new age.
    stage.service.wait_until_connected()
    stage.net.create_account("stranger").post("the first event of a new age")
    assert stage.settle() == 4
    assert gap_reasons(stage.database) == {"numbers restarted at 5"}


def test_what_the_relay_has_not_said_yet_is_neither_lost_nor_doubled(stage):
    stage.net.relay.hold()
    carol = stage.net.create_account("carol")
    posts = [carol.post(f"held {number}") for number in range(3)]
    stage.viewer.follow(carol, emit=False)
    late = stage.net.create_account("late")
    for account in (stage.alice, carol):
        late.follow(account, emit=False)
    carol.delete(posts[1])
    stage.reader.settle(late)
    stage.alice.repost(posts[0])
    carol.edit(posts[0], text="changed")
    carol.delete(posts[2])
    assert stage.net.relay.release() > 8
    stage.viewer.post("and on")
    stage.settle()
    stage.reader.settle(late, database=stage.database)


def test_an_empty_page_before_the_end_takes_nothing_away(stage):
    carol = stage.net.create_account("carol")
    record = {"text": "x", "createdAt": "2026-11-20T10:00:00Z"}
    carol.apply([Write("create", POST, None, record) for _ in range(150)], emit=False)
    stage.viewer.follow(carol)
    assert stage.settle() == 153
    where = {"repo": carol.did, "collection": POST}
    stage.net.faults.arm("list-empty-page", where=where)
    carol.emit_sync()
    wait_until(lambda: stage.net.faults.fired["list-empty-page"] == 1, 10, "the page was read")
    assert stage.settle() == 153


def test_a_database_that_goes_away_and_comes_back_costs_nothing(
    net, postgres, make_service, tmp_path
):
    stage = Stage(net, PostgresDatabase(postgres), make_service)
    posts = 0
    for signum in (signal.SIGINT, signal.SIGQUIT):
        stage.alice.post("unsaved, perhaps")
        postgres.go_away(signum)
        wait_until(lambda: stage.service.status_of("/ready") == 503, 10, "/ready says so")
        assert stage.service.status_of("/health") == 200
        with pytest.raises(FeedFailed, match="503 ServiceUnavailable"):
            stage.reader.read(stage.viewer)
        stage.bob.post("while the database was away")
        posts += 2
        postgres.come_back()
        stage.service.wait_until_ready()
        assert stage.settle(seconds=30) == 3 + posts
    assert gap_reasons(stage.database) == set()
    assert stage.service.stop() == 0
    assert "Traceback" not in stage.service.log_path.read_text(), stage.service.log_text()
