"""The service as a family of processes: it starts, stops, is killed, and goes on where it was."""

import os
import signal
import sqlite3
from contextlib import closing

import pytest

from simnet import FeedFailed, Network, PatientClock
from tests.system.databases import SqliteFile, gap_reasons, has_cursor
from tests.system.service import STOP_SECONDS
from tests.system.truth import Reader
from tests.system.waiting import wait_until

LISTING = "com.atproto.repo.listRecords"


@pytest.fixture
def net():
    with Network(seed=5, pds=2, clock=PatientClock()) as network:
        yield network


@pytest.fixture
def database(tmp_path):
    return SqliteFile(tmp_path / "feeds.db")


@pytest.fixture
def world(net, database, make_service):
    """A service that is not started, a viewer of two, and a reader."""
    publisher = net.create_account("publisher")
    service = make_service(net, database, environ={"FEED_PUBLISHER_DID": publisher.did})
    people = [net.create_account(f"p{number}", pds=number) for number in range(2)]
    for person in people:
        person.post("at first")
    viewer = net.create_account("viewer")
    for person in people:
        viewer.follow(person, emit=False)
    return service, Reader(net, service, publisher), viewer, people


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_and_the_next_start_goes_on(world, net, database, signum):
    service, reader, viewer, people = world
    service.start()
    assert reader.settle(viewer, database=database) == 2
    assert len(service.members("gunicorn")) == 2
    people[0].post("the first event")
    assert reader.settle(viewer) == 3
    wait_until(lambda: has_cursor(database), 10, "a place in the stream")
    assert service.stop(signum) == 0
    assert service.status_of("/health") is None
    for person in people:
        person.post("while nobody listened")
    asked = sum(pds.requests[LISTING] for pds in net.pds)
    service.start()
    assert reader.settle(viewer, seconds=10) == 5
    assert gap_reasons(database) == set()
    assert sum(pds.requests[LISTING] for pds in net.pds) == asked
    assert service.stop(signum) == 0
    assert "Traceback" not in service.log_path.read_text(), service.log_text()


def keys(page):
    return [item.repost_uri or item.uri for item in page.items]


def test_page_cursors_are_good_over_a_kill_and_a_start(world, net, database):
    service, reader, viewer, people = world
    for number in range(10):
        people[number % 2].post(f"post {number}")
    service.start()
    assert reader.settle(viewer, database=database) == 12
    whole = reader.read(viewer).keys
    uris = [reader.uri(rkey) for rkey in ("everything", "following", "catch-up")]
    first = {uri: net.get_feed(viewer, uri, 3) for uri in uris}
    service.kill()
    people[0].post("while nobody listened")
    service.start()
    assert reader.settle(viewer, seconds=10) == 13
    found = {}
    for uri, page in first.items():
        found[uri] = keys(page)
        while page.cursor is not None:
            page = net.get_feed(viewer, uri, 4, page.cursor)
            found[uri] += keys(page)
    new = reader.read(viewer).keys[:1]
    # Upwards one comes upon it at the end.
    assert list(found.values()) == [whole, whole, [*reversed(whole), *new]]


@pytest.mark.slow
def test_a_stop_does_not_wait_for_hosts_that_hang(world, net):
    service, reader, viewer, _ = world
    service.start()
    net.faults.arm("http-hang", times=None, where={"host": "pds0"})
    reader.open(viewer)
    wait_until(lambda: net.faults.fired["http-hang"], 10, "a request hangs")
    net.relay.stream.stall()
    assert service.stop() == 0
    assert "Traceback" not in service.log_path.read_text(), service.log_text()


def test_after_a_kill_of_everything_the_next_start_goes_on(world, net, database):
    service, reader, viewer, people = world
    service.start()
    people[0].post("the first event")
    assert reader.settle(viewer, database=database) == 3
    wait_until(lambda: has_cursor(database), 10, "a place in the stream")
    for _ in range(3):
        for person in people:
            person.post("unsaved, perhaps")
        service.kill()
        for person in people:
            person.post("while nobody listened")
        service.start()
    assert reader.settle(viewer, seconds=10) == 15
    assert gap_reasons(database) == set()
    assert service.stop() == 0


@pytest.mark.parametrize("victim", ["server ingest", "gunicorn"])
def test_when_one_half_is_killed_the_other_ends_and_the_exit_says_so(world, victim):
    service, reader, viewer, people = world
    service.start()
    members = service.family()
    service.members(victim)[0].send(signal.SIGKILL)
    assert service.wait(STOP_SECONDS) == 1
    wait_until(lambda: not any(m.is_alive() for m in members), STOP_SECONDS, "all have ended")
    assert "ended by itself" in service.log_path.read_text()
    people[0].post("in between")
    service.start()
    assert reader.settle(viewer) == 3


def test_when_the_first_process_is_killed_the_others_end(world):
    service, reader, viewer, _ = world
    service.start()
    members = service.family()
    assert len(members) == 4
    members[0].send(signal.SIGKILL)
    wait_until(lambda: not any(m.is_alive() for m in members), STOP_SECONDS, "all have ended")
    service.wait(1)
    service.start()
    assert reader.settle(viewer) == 2


def test_a_web_worker_that_is_killed_is_replaced(world):
    service, reader, viewer, _ = world
    service.start()
    assert reader.settle(viewer) == 2
    worker = service.members("gunicorn")[-1]
    worker.send(signal.SIGKILL)
    wait_until(lambda: not worker.is_alive(), 5, "it is dead")
    assert reader.settle(viewer) == 2
    assert service.is_running


def test_a_viewer_with_a_new_key_is_known_again(world, net, database):
    service, reader, viewer, people = world
    service.start()
    assert reader.settle(viewer) == 2
    assert service.stop() == 0
    # The next start finds a look-up of two minutes ago: a key is looked up at most once a minute.
    with closing(sqlite3.connect(database.path)) as connection, connection:
        connection.execute("UPDATE authors SET checked_us = checked_us - 120000000")
    service.start()
    assert reader.settle(viewer) == 2
    old_key = viewer.state.key
    viewer.rotate_key()
    people[0].post("after the new key")
    assert reader.settle(viewer, seconds=10) == 3
    with pytest.raises(FeedFailed, match="401"):
        net.appview.get_feed(
            reader.uri(),
            10,
            None,
            lambda aud, lxm: net.service_token(viewer, aud, lxm, key=old_key),
        )
    assert service.stop() == 0


def test_web_alone_serves_and_says_what_is_missing(world, net, database, make_service):
    _, reader, viewer, people = world
    web = make_service(
        net, database, command="web", environ={"FEED_PUBLISHER_DID": reader.publisher.did}
    )
    web.launch()
    web.wait_until_ready("/health")
    assert web.status_of("/ready") == 503
    ingest = make_service(net, database, command="ingest")
    ingest.launch()
    web.wait_until_ready("/ready")
    own = Reader(net, web, reader.publisher)
    people[0].post("read by the one, shown by the other")
    assert own.settle(viewer) == 3
    assert ingest.stop() == 0
    wait_until(lambda: web.status_of("/ready") == 503, 5, "/ready sees it")
    assert web.stop() == 0
    for process in (web, ingest):
        assert "ALLOW_PRIVATE_HOSTS is on" in process.log_path.read_text(), process.log_text()
        assert "Traceback" not in process.log_path.read_text(), process.log_text()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"STREAM_URLS": "http://x/y"}, "STREAM_URLS"),
        ({"PORT": "eighty", "RETENTION_DAYS": "0"}, "RETENTION_DAYS"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"FEED_HOSTNAME": "feeds.example.com"}, "FEED_PUBLISHER_DID"),
    ],
)
def test_wrong_settings_end_the_start_with_a_sentence(net, database, make_service, setting, said):
    service = make_service(net, database, environ=setting)
    service.launch()
    assert service.wait(STOP_SECONDS) == 2
    text = service.log_path.read_text()
    assert said in text
    assert "Traceback" not in text


def test_a_database_that_does_not_answer_ends_the_start_with_a_sentence(
    net, database, make_service
):
    url = "postgresql://nobody:secret@127.0.0.1:1/nothing"
    service = make_service(net, database, environ={"DATABASE_URL": url})
    service.launch()
    assert service.wait(STOP_SECONDS) == 1
    text = service.log_path.read_text()
    assert "the database" in text
    assert "Traceback" not in text
    assert "secret" not in text


def test_who_answers_readers_goes_before_who_catches_up(world):
    service, _, _, _ = world
    service.start()
    (ingest,) = service.members("server ingest")
    web = service.members("gunicorn")
    assert web
    wait_until(lambda: niceness(ingest) > max(map(niceness, web)), 10, "the ingest's modesty")


def niceness(process):
    return os.getpriority(os.PRIO_PROCESS, process.pid)
