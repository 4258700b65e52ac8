"""Repos that have no end: how much of them is taken, and what is told of the rest."""

import time

import pytest

from server.backfill import author, pds
from server.core.errors import FetchFailed
from server.core.syntax import FOLLOW, int_to_tid, tid_to_int
from server.storage import follows, ledger, pages, repos
from server.storage.authors import author_ids
from server.storage.database import rows, value
from server.storage.ledger import Window
from server.storage.rkeys import decode_rkeys
from tests.backfill.accounts import fetch, reset, state, stored, track, tracked, truth
from tests.backfill.watching import stream_is_at
from tests.builders import NOW_US

POST = "app.bsky.feed.post"

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def alice(net):
    return tracked(net, "alice")


def test_follows_without_end_are_cut_and_the_repo_is_complete(net, sources, monkeypatch, caplog):
    monkeypatch.setattr(follows, "MAX_FOLLOWS", 5)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 2)
    viewer = net.create_account("viewer")
    made = [viewer.follow(net.create_account(f"friend{number}")) for number in range(12)]
    viewer.post("one")
    track(viewer, repos.ITEMS | repos.FOLLOWS)
    before = net.pds[0].requests["com.atproto.repo.listRecords"]
    fetch(viewer, sources)
    # The newest five, in three pages and no more; then two of posts, one of reposts.
    assert net.pds[0].requests["com.atproto.repo.listRecords"] - before == 6
    assert kept_follows() == {ref.rkey for ref in made[-5:]}
    assert (stored(viewer), state(viewer)) == (truth(viewer), (repos.LIVE, 1, None))
    assert "follows cut" in caplog.text
    assert is_told_cut(viewer)
    for ref in made[:8]:
        viewer.delete(ref)
    reset(viewer)
    fetch(viewer, sources)
    assert kept_follows() == {ref.rkey for ref in made[-4:]}
    assert not is_told_cut(viewer)


def test_a_history_without_end_is_cut_and_complete_since_then(
    net, alice, sources, monkeypatch, caplog
):
    monkeypatch.setattr(pages, "MAX_ITEMS", 4)
    monkeypatch.setattr(pds, "FIRST_RECORDS", 2)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 2)
    made = [alice.post(str(number)) for number in range(12)]
    fetch(alice, sources)
    assert stored(alice) == {(POST, ref.rkey) for ref in made[-6:]}
    assert state(alice) == (repos.LIVE, 1, None)
    assert value("SELECT horizon_rkey FROM repos") == tid_to_int(made[-6].rkey)
    assert "history cut" in caplog.text


def test_follows_that_fail_do_not_send_the_listing_of_posts_below_the_floor(
    net, sources, monkeypatch
):
    monkeypatch.setattr(pds, "PAGE_RECORDS", 5)
    viewer = net.create_account("viewer")
    viewer.follow(net.create_account("friend"))
    day_us = 86_400_000_000
    for age in range(39, -1, -1):
        viewer.post(str(age), at_us=net.clock() - age * day_us)
    track(viewer, repos.ITEMS | repos.FOLLOWS)
    net.faults.arm("http-500", where={"method": "com.atproto.repo.listRecords"})
    with pytest.raises(FetchFailed):
        fetch(viewer, sources)
    fetch(viewer, sources)
    assert net.faults.fired["http-500"] == 1
    # The seven days that are wanted, and what else was on their last page.
    assert len(stored(viewer)) == 10


def test_keys_that_say_nothing_of_when_are_cut_like_others(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pages, "MAX_ITEMS", 4)
    monkeypatch.setattr(pds, "FIRST_RECORDS", 2)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 2)
    for number in range(12):
        alice.post(str(number), rkey=f"z{number:02}")
    before = time.time_ns() // 1000
    fetch(alice, sources)
    assert len(stored(alice)) == 6
    assert value("SELECT horizon_rkey FROM repos") >= before << 10


def test_a_clock_that_is_ahead_cuts_no_history(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 3)
    day_us = 86_400_000_000
    for age in range(9, -1, -1):
        alice.post(str(age), at_us=net.clock() - age * day_us)
    stream_is_at(sources.epoch, 0)
    right_us = author._now_us
    monkeypatch.setattr(author, "_now_us", lambda: right_us() + 30 * day_us)
    fetch(alice, sources)
    # The seven days that are wanted, and what else was on their last page.
    assert len(stored(alice)) == 9


@pytest.fixture
def short_pages(monkeypatch):
    monkeypatch.setattr(pds, "FIRST_RECORDS", 2)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 2)
    # So that what was listed is remembered from turn to turn.
    monkeypatch.setattr(author, "MAX_PAGES_A_TURN", 2)


def write_junk(net, account, collection, count):
    keys = [int_to_tid(net.clock() - age << 10) for age in range(count, 0, -1)]
    for key in keys:
        account.put(collection, key, {"$type": collection, "createdAt": "never"})
    return keys


@pytest.mark.usefixtures("short_pages")
def test_junk_without_end_is_cut_like_a_history(net, alice, sources, monkeypatch, caplog):
    monkeypatch.setattr(pages, "MAX_LISTED", 6)
    keys = write_junk(net, alice, POST, 20)
    before = net.pds[0].requests["com.atproto.repo.listRecords"]
    fetch(alice, sources)
    # The newest page of each collection, and then three of posts.
    assert net.pds[0].requests["com.atproto.repo.listRecords"] - before == 5
    assert (stored(alice), state(alice)) == (set(), (repos.LIVE, 1, None))
    assert value("SELECT horizon_rkey FROM repos") == tid_to_int(keys[-8])
    assert "history cut" in caplog.text


@pytest.mark.usefixtures("short_pages")
def test_junk_among_follows_without_end_is_cut_like_these(net, sources, monkeypatch):
    monkeypatch.setattr(pages, "MAX_LISTED", 6)
    viewer = net.create_account("viewer")
    viewer.follow(net.create_account("friend"))
    write_junk(net, viewer, FOLLOW, 20)
    viewer.post("one")
    track(viewer, repos.ITEMS | repos.FOLLOWS)
    before = net.pds[0].requests["com.atproto.repo.listRecords"]
    fetch(viewer, sources)
    # Three of follows; then two of posts, one of reposts.
    assert net.pds[0].requests["com.atproto.repo.listRecords"] - before == 6
    assert (stored(viewer), state(viewer)) == (truth(viewer), (repos.LIVE, 1, None))
    assert is_told_cut(viewer)


@pytest.mark.usefixtures("short_pages")
def test_what_is_long_and_has_an_end_is_listed_to_it(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pages, "MAX_LISTED", 6)
    post = alice.post("the oldest", rkey=int_to_tid(net.clock() - 1_000_000 << 10))
    write_junk(net, alice, POST, 5)
    fetch(alice, sources)
    assert stored(alice) == {(POST, post.rkey)}
    assert value("SELECT horizon_rkey FROM repos") == 0


def kept_follows():
    texts = decode_rkeys(rkey for (rkey,) in rows("SELECT rkey FROM follows"))
    return set(texts.values())


def is_told_cut(viewer):
    number = author_ids([viewer.did])[viewer.did]
    return "follows cut" in ledger.of_viewer(number, Window.at(NOW_US, 7, 30), 9).counts
