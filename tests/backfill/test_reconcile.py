"""Comparing with the PDSes: what is missing is found and healed, what is late is left alone."""

import pytest

from server.backfill import look, pds, reconcile
from server.core.errors import NotFound
from server.core.projection import DropRecord
from server.core.syntax import tid_to_int
from server.storage import discrepancies, follows, gaps, repos
from server.storage.authors import author_ids
from server.storage.batch import Batch, RepoCommit
from server.storage.database import execute, rows, value, write_transaction
from tests.backfill.accounts import fetch, reset, state, stored, truth
from tests.backfill.watching import findings, look_and_let_the_stream_pass, stream_is_at
from tests.builders import HOST, NOW_US

POST, FOLLOW = "app.bsky.feed.post", "app.bsky.graph.follow"
LATEST, LISTING = "com.atproto.sync.getLatestCommit", "com.atproto.repo.listRecords"

pytestmark = pytest.mark.usefixtures("db")


def forget(account, path):
    """As if an event about this record had been lost."""
    collection, rkey = path
    author = author_ids([account.did])[account.did]
    if collection == FOLLOW:
        sql = "DELETE FROM follows WHERE viewer_id = ? AND rkey = ?"
    else:
        sql = "DELETE FROM feed_items WHERE author_id = ? AND rkey = ?"
    assert execute(sql, (author, tid_to_int(rkey))) == 1


def test_a_commit_that_the_stream_never_told_of_is_found_and_fetched(alice, sources, watch):
    alice.post("two")
    watching = watch()
    watching.run()
    stream_is_at(sources.epoch, reconcile.SETTLE_MS - 5000)
    watching.run()
    assert findings() == []
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 5000)
    watching.run()
    assert findings() == [(alice.did, "missed commit")]
    gap = gaps.open_gaps(1)[0]
    assert gap.detail.startswith(f"the PDS has {alice.state.repo.head.rev}, we have ")
    assert gap.from_ms < gap.to_ms
    assert gap.host == HOST
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert findings() == []
    look_and_let_the_stream_pass(watch())
    assert findings() == []


def test_a_commit_that_the_stream_tells_late_is_no_discrepancy(alice, sources, watch):
    since = tid_to_int(alice.state.repo.head.rev)
    alice.post("two")
    watching = watch()
    watching.run()
    told = RepoCommit(alice.did, tid_to_int(alice.state.repo.head.rev), since, (), None)
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000, Batch(commits=[told]))
    watching._settle()
    assert findings() == []
    assert watching.suspicions == {}


def test_what_was_seen_before_a_repo_was_fetched_again_counts_no_more(alice, sources, watch):
    alice.post("two")
    watching = watch()
    watching.run()
    assert len(watching.suspicions) == 1
    reset(alice)
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000)
    watching._settle()
    assert findings() == []


def test_a_host_that_was_left_has_no_say(net, alice, sources, watch):
    since = tid_to_int(alice.state.repo.head.rev)
    alice.migrate(1)
    told = RepoCommit(alice.did, tid_to_int(alice.state.repo.head.rev), since, (), None)
    stream_is_at(sources.epoch, 0, Batch(commits=[told]))
    # The event of the move was lost: the old address is the one that we know.
    watching = watch()
    look_and_let_the_stream_pass(watching)
    assert net.pds[0].requests[LATEST] == 2
    assert net.pds[1].requests[LATEST] == 1
    assert findings() == []
    alice.delete_at(0)
    execute("UPDATE authors SET pds_url = ?", (net.pds[0].url,))
    look_and_let_the_stream_pass(watching)
    assert (findings(), state(alice)) == ([], (repos.LIVE, 1, None))


def test_an_account_that_went_or_came_back_unheard_is_found(alice, sources, watch):
    alice.set_status("deactivated", emit=False)
    look_and_let_the_stream_pass(watch())
    assert findings() == [(alice.did, "other status")]
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 0, "pds:deactivated")
    look_and_let_the_stream_pass(watch())
    assert findings() == []
    alice.set_status("active", emit=False)
    look_and_let_the_stream_pass(watch())
    assert findings() == [(alice.did, "other status")]
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 1, None)


def test_who_was_taken_down_by_the_relay_stays_hidden_whatever_the_pds_shows(alice, sources, watch):
    stream_is_at(sources.epoch, 0, Batch(statuses={alice.did: (False, "takendown")}))
    look_and_let_the_stream_pass(watch())
    assert findings() == []
    assert state(alice) == (repos.LIVE, 0, "takendown")


def test_an_account_that_the_directory_forgot_is_found(net, alice, sources, watch):
    alice.state.is_tombstoned = True
    alice.set_status("deleted", emit=False)
    look_and_let_the_stream_pass(watch())
    assert findings() == [(alice.did, "other status")]
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 0, "pds:deleted")


def test_follows_that_are_cut_are_not_taken_for_a_loss(
    net, viewer, alice, sources, watch, monkeypatch
):
    monkeypatch.setattr(follows, "MAX_FOLLOWS", 1)
    viewer.follow(net.create_account("friend"))
    reset(viewer)
    fetch(viewer, sources)
    for carries_chain in (True, False):
        look_and_let_the_stream_pass(watch(carries_chain=carries_chain))
        assert findings() == []


def test_follows_of_a_viewer_are_compared_one_by_one(net, viewer, alice, sources, watch):
    friend = net.create_account("friend")
    kept, gone = viewer.follow(friend), viewer.follow(alice)
    # What the commits were about is lost, but not that there were any.
    execute("UPDATE repos SET rev = ? WHERE wants = 3", (tid_to_int(viewer.state.repo.head.rev),))
    look_and_let_the_stream_pass(watch())
    assert findings() == [(viewer.did, "other records")]
    assert "2 missing, 0 too many" in gaps.open_gaps(1)[0].detail
    fetch(viewer, sources)
    assert value("SELECT count(*) FROM follows") == 3
    viewer.delete(gone)
    viewer.delete(kept)
    execute("UPDATE repos SET rev = ? WHERE wants = 3", (tid_to_int(viewer.state.repo.head.rev),))
    look_and_let_the_stream_pass(watch())
    assert "0 missing, 2 too many" in gaps.open_gaps(1)[0].detail
    fetch(viewer, sources)
    assert value("SELECT count(*) FROM follows") == 1


def test_follows_that_the_stream_brings_or_takes_meanwhile_are_no_discrepancy(
    net, viewer, sources, watch
):
    friend = net.create_account("friend")
    since = tid_to_int(viewer.state.repo.head.rev)
    ref = viewer.follow(friend)
    watching = watch()
    watching.run()
    assert len(watching.suspicions) == 2
    viewer.delete(ref)
    rev = tid_to_int(viewer.state.repo.head.rev)
    told = RepoCommit(viewer.did, rev, since, (DropRecord(FOLLOW, ref.rkey),), None)
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000, Batch(commits=[told]))
    watching._settle()
    assert findings() == []


def test_viewers_who_stay_away_are_not_asked_about(net, viewer, watch):
    execute("UPDATE viewers SET last_us = 0")
    before = net.pds[0].requests[LISTING]
    watch().run()
    assert net.pds[0].requests[LISTING] == before


@pytest.mark.parametrize("manner", [None, "list-own-cursor", "list-upwards", "list-shuffled"])
def test_without_a_chain_records_are_compared(net, alice, sources, watch, monkeypatch, manner):
    if manner is not None:
        monkeypatch.setattr(pds, "PAGE_RECORDS", 3)
        for number in range(7):
            alice.post(str(number), at_us=net.clock() - number * 86_400_000_000)
        net.faults.arm(manner, times=None)
    lost, extra = alice.post("lost"), alice.post("deleted unheard")
    alice.repost(lost)
    reset(alice)
    fetch(alice, sources)
    forget(alice, (POST, lost.rkey))
    alice.delete(extra)
    look_and_let_the_stream_pass(watch(carries_chain=False))
    assert findings() == [(alice.did, "other records")]
    assert gaps.open_gaps(1)[0].detail.startswith("1 missing, 1 too many")
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    look_and_let_the_stream_pass(watch(carries_chain=False))
    assert findings() == []


def test_without_a_chain_what_nobody_can_expect_here_is_not_missing(net, alice, sources, watch):
    day_us = 86_400_000_000
    alice.post("below the horizon", at_us=net.clock() - 5 * day_us)
    alice.post("dated long ago", created_at=net.clock() - 40 * day_us)
    alice.post("of an odd key", rkey="odd.key")
    alice.put(POST, "3kkkkkkkkkkkk", {"$type": POST, "text": 7, "createdAt": "never"})
    look_and_let_the_stream_pass(watch(carries_chain=False))
    assert findings() == []


def test_without_a_chain_a_status_is_seen_as_well(alice, watch):
    alice.set_status("deactivated", emit=False)
    look_and_let_the_stream_pass(watch(carries_chain=False))
    assert findings() == [(alice.did, "other status")]


def test_likes_that_a_source_without_a_chain_leaves_out_are_not_missing(alice, sources, watch):
    liked = alice.post("liked")
    reset(alice)
    fetch(alice, sources)
    alice.like(liked)
    for has_chain in (False, True):
        # Also after a change to a relay, until it has brought a commit of the author's.
        stream_is_at(sources.epoch, 0, has_chain=has_chain)
        with write_transaction():
            repos.void_chains()
        watching = watch()
        watching.run()
        assert not watching.suspicions
    lost = alice.post("lost")
    watching = watch()
    watching.run()
    assert [suspicion.finding.reason for suspicion in watching.suspicions.values()] == [
        "other records"
    ]
    assert lost.rkey in str(watching.suspicions)


def test_after_a_source_without_a_chain_a_listing_in_whole_has_to_show_no_difference(
    net, alice, sources, watch, monkeypatch
):
    with write_transaction():
        repos.void_chains()
    rev = tid_to_int(alice.state.repo.head.rev)
    alice.like(alice.post("lost", emit=False))
    told = RepoCommit(alice.did, tid_to_int(alice.state.repo.head.rev), rev, (), None)
    stream_is_at(sources.epoch, 0, Batch(commits=[told]))
    watching = watch()
    # What is not listed to its end, or not at all, says nothing of the rest.
    for what, bad in (("LOOK_SECONDS", 0), ("Look._list", refuse)):
        with monkeypatch.context() as patch:
            patch.setattr(f"{look.__name__}.{what}", bad)
            watching.run()
    assert watching.suspicions == {}
    look_and_let_the_stream_pass(watching)
    assert findings() == [(alice.did, "other records")]
    fetch(alice, sources)
    before = net.pds[0].requests[LISTING]
    look_and_let_the_stream_pass(watching)
    assert findings() == []
    assert net.pds[0].requests[LISTING] == before


def refuse(*_):
    raise NotFound("what is asked for is not there")


def test_one_source_without_a_chain_among_those_read_together_is_enough(alice, sources):
    assert discrepancies.carries_chain()
    stream_is_at(sources.epoch, 0, has_chain=True)
    assert discrepancies.carries_chain()
    stream_is_at(sources.epoch, 0, host="jetstream.test", has_chain=False)
    assert not discrepancies.carries_chain()
    # One that was read before, and is no more, does not count.
    later_us = NOW_US + 2 * discrepancies.READ_TOGETHER_US
    execute("UPDATE stream_cursors SET written_us = ? WHERE host = ?", (later_us, HOST))
    assert discrepancies.carries_chain()


def test_a_deposed_leader_finds_nothing(alice, sources, watch):
    alice.post("two")
    watching = watch()
    watching.run()
    stream_is_at(sources.epoch, reconcile.SETTLE_MS + 1000)
    execute("UPDATE leases SET epoch = epoch + 1")
    with pytest.raises(Exception, match="leads now"):
        watching._settle()
    assert rows("SELECT * FROM gaps") == []
