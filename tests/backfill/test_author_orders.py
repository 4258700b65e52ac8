"""Repos of PDSes that list otherwise than the official one: read whole all the same."""

from threading import Event as StopEvent

import pytest

from server.backfill import pds
from server.backfill.author import Backfill
from server.storage import repos
from server.storage.authors import outdate_identities
from server.storage.database import execute
from tests.backfill.accounts import fetch, reset, state, stored, tracked, truth
from tests.builders import NOW_US, job_of_did

POST = "app.bsky.feed.post"

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def alice(net):
    return tracked(net, "alice")


@pytest.mark.parametrize("manner", ["list-own-cursor", "list-upwards", "list-shuffled"])
def test_a_repo_is_read_whole_in_whatever_order_its_pds_lists(
    net, alice, sources, monkeypatch, manner
):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 5)
    net.faults.arm(manner, times=None)
    posts = [alice.post(str(number)) for number in range(23)]
    for post in posts[:7]:
        alice.repost(post)
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    for post in posts[1:22:4]:
        alice.delete(post)
    alice.post("later")
    reset(alice)
    fetch(alice, sources)
    assert net.faults.fired[manner] >= 9
    assert stored(alice) == truth(alice)
    assert state(alice) == (repos.LIVE, 1, None)


def test_who_moves_while_their_repo_is_read_is_read_anew_there(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    for number in range(10):
        alice.post(str(number))
    Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    assert len(stored(alice)) == 3
    alice.migrate(1)
    # To the new one the old one's cursor means nothing, which looks like the end.
    net.faults.arm("list-own-cursor", times=None, where={"host": "pds1"})
    outdate_identities([alice.did], NOW_US)
    fetch(alice, sources)
    assert net.faults.fired["list-own-cursor"] >= 1
    assert stored(alice) == truth(alice)


def test_what_we_hold_below_the_floor_is_read_again_where_a_pds_lists_upwards(
    net, alice, sources, monkeypatch
):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 4)
    old = [alice.post(str(n), at_us=net.clock() - (60 + n) * 86_400_000_000) for n in range(9)]
    for number in range(9):
        alice.post(str(number))
    fetch(alice, sources)
    alice.delete(old[0])
    # A hole of long ago, and what we hold of that time is still there.
    reset(alice)
    execute("UPDATE repos SET horizon_rkey = ?", (2**63 - 1,))
    held = stored(alice)
    net.faults.arm("list-upwards", times=None)
    fetch(alice, sources)
    assert (POST, old[1].rkey) in held
    assert held - stored(alice) == {(POST, old[0].rkey)}
    assert stored(alice) <= truth(alice)
