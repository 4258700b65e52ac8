"""Posts of strangers that replies hang on: looked up once, from the PDS where they live."""

import threading
import time

import pytest

from server.backfill.author import Backfill
from server.backfill.outside import MAX_ATTEMPTS, OutsidePosts
from server.backfill.worker import BackfillWorkers
from server.core.feed import TimelineFilter
from server.core.syntax import tid_to_int
from server.storage import leases, outside_posts, repos, viewers
from server.storage.authors import author_ids, save_identity
from server.storage.database import rows, value, write_transaction
from server.storage.timeline import timeline_page
from tests.builders import NOW_US, job_of_did

FOLLOWING = TimelineFilter(replies="following")
WAIT_SECONDS = 15.0

pytestmark = pytest.mark.usefixtures("db")


def wait_until(claim):
    deadline = time.monotonic() + WAIT_SECONDS
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_a_reply_to_a_strangers_reply_to_somebody_followed_is_shown_once_known(
    net, sources, running
):
    viewer, friend, buddy = (net.create_account(name) for name in ("vera", "fay", "bud"))
    stranger, starter = net.create_account("stan", pds=1), net.create_account("stacy", pds=1)
    viewer.follow(friend)
    viewer.follow(buddy)
    root = starter.post("root")
    middle = buddy.post("by somebody followed", reply_to=root)
    strange = stranger.post("by a stranger", reply_to=middle)
    wanted = friend.post("to the stranger", reply_to=strange)
    hidden = friend.post("to a stranger alone", reply_to=root)
    number = fill(viewer, sources)
    assert wanted.uri not in shown(number)
    running(lambda stop: OutsidePosts(sources, stop))
    wait_until(lambda: wanted.uri in shown(number))
    assert hidden.uri not in shown(number)


def test_a_reply_to_a_strangers_deleted_post_goes_once_known(net, sources, running):
    viewer, friend = net.create_account("vera"), net.create_account("fay")
    stranger = net.create_account("stan", pds=1)
    viewer.follow(friend)
    root = friend.post("root")
    strange = stranger.post("soon gone", reply_to=root)
    reply = friend.post("to what is gone", reply_to=strange)
    also = friend.post("to oneself", reply_to=root)
    stranger.delete(strange)
    number = fill(viewer, sources)
    running(lambda stop: OutsidePosts(sources, stop))
    wait_until(lambda: reply.uri not in shown(number))
    assert also.uri in shown(number)


def test_a_server_that_fails_is_asked_again_later_and_not_for_ever(net, sources, running):
    viewer, friend = net.create_account("vera"), net.create_account("fay")
    stranger = net.create_account("stan", pds=1)
    viewer.follow(friend)
    friend.post("a reply", reply_to=stranger.post("a post"))
    fill(viewer, sources)
    net.faults.arm("http-500", times=None, where={"host": "pds1"})
    running(lambda stop: OutsidePosts(sources, stop))
    wait_until(lambda: value("SELECT max(attempts) FROM outside_posts") == 1)
    assert net.faults.fired["http-500"] >= 1
    assert rows("SELECT state, not_before_us > ? FROM outside_posts", (NOW_US,)) in (
        [(outside_posts.WANTED, 1)],
        [(outside_posts.WANTED, True)],
    )


@pytest.fixture
def strange(net):
    """A stranger's post on pds1 that is wanted, at an address that we remember."""
    stranger = net.create_account("stan", pds=1)
    ref = stranger.post("by a stranger")
    number = author_ids([stranger.did])[stranger.did]
    save_identity(stranger.did, None, net.pds[1].url, None, NOW_US)
    with write_transaction():
        outside_posts.want([(number, tid_to_int(ref.uri.rsplit("/", 1)[1]), 1)])
    return stranger, ref


def look_up(sources):
    """One try at what is wanted, however long it should wait; state and failures afterwards."""
    for post in outside_posts.due(2**62, 9):
        OutsidePosts(sources, threading.Event())._look_up(post)
    return rows("SELECT state, attempts FROM outside_posts")[0]


def test_a_post_is_not_missing_because_its_author_has_moved(net, sources, strange):
    stranger, _ = strange
    stranger.migrate(0)
    assert look_up(sources) == (outside_posts.THERE, 0)


def test_a_proxy_without_its_server_does_not_make_a_post_missing(net, sources, strange):
    net.faults.arm("http-404-html", times=None, where={"host": "pds1"})
    assert look_up(sources) == (outside_posts.WANTED, 1)
    assert net.faults.fired["http-404-html"] >= 1
    net.faults.disarm()
    assert look_up(sources) == (outside_posts.THERE, 1)


def test_what_nobody_names_as_missing_stays_unknown(net, sources, strange):
    net.faults.arm("http-404-html", times=None, where={"host": "pds1"})
    found = [look_up(sources) for _ in range(MAX_ATTEMPTS)]
    assert found[-1] == (outside_posts.UNKNOWN, MAX_ATTEMPTS - 1)


def test_a_directory_without_its_server_does_not_make_a_post_missing(net, sources, strange):
    net.faults.arm("http-404-html", times=None, where={"host": "pds1"})
    net.faults.arm("http-404-html", times=1, where={"host": "plc"})
    assert look_up(sources) == (outside_posts.WANTED, 1)
    assert net.faults.fired["http-404-html"] == 2
    net.faults.disarm()
    assert look_up(sources) == (outside_posts.THERE, 1)


def test_a_post_is_missing_where_it_is_deleted(sources, strange):
    stranger, ref = strange
    stranger.delete(ref)
    assert look_up(sources) == (outside_posts.MISSING, 0)


@pytest.mark.parametrize("leave", ["deactivate", "takedown", "suspend", "delete_account"])
def test_a_post_is_missing_where_its_author_is_not_shown(sources, strange, leave):
    getattr(strange[0], leave)()
    assert look_up(sources) == (outside_posts.MISSING, 0)


def test_the_workers_empty_the_queue_whoever_fails(net, sources, running):
    people = [net.create_account(f"p{number}", pds=number % 2) for number in range(12)]
    for person in people:
        person.post("one")
    with write_transaction():
        repos.track(author_ids([p.did for p in people]).values(), repos.ITEMS, NOW_US)
    confirm(sources)
    net.faults.arm("http-500", times=None, where={"host": "pds1"})
    running(lambda stop: BackfillWorkers(sources, 4, stop))
    wait_until(lambda: value("SELECT count(*) FROM feed_items") == 6)
    wait_until(lambda: value("SELECT count(*) FROM backfill_jobs WHERE attempts > 0") == 6)
    wait_until(lambda: value("SELECT count(*) FROM backfill_jobs") == 6)
    assert value("SELECT count(*) FROM repos WHERE state = ?", (repos.LIVE,)) == 6


def fill(viewer, sources):
    """Welcome a viewer and fetch all that has to be fetched; their number."""
    number = viewers.welcome(viewer.did, NOW_US)
    confirm(sources)
    backfill(viewer.did, sources)
    confirm(sources)
    for (did,) in rows(
        "SELECT a.did FROM backfill_jobs j JOIN authors a ON a.id = j.author_id ORDER BY a.id"
    ):
        backfill(did, sources)
    return number


def backfill(did, sources):
    for _ in range(9):
        job = job_of_did(did, sources.epoch)
        if job is None:
            return
        Backfill(job, sources, threading.Event()).run()
    raise AssertionError("the job does not come to its end")


def confirm(sources):
    leases.confirm(sources.epoch, 10**9)


def shown(number):
    return {item.post_uri for item in timeline_page(number, FOLLOWING, None, 100, NOW_US).items}
