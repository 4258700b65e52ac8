"""Words about accounts: who is deleted for real is purged, who is only called so comes back."""

from threading import Event as StopEvent

import pytest

from server.backfill import accounts, pds
from server.backfill.accounts import Accounts
from server.storage import departures, repos, viewers
from server.storage.authors import author_ids, load_identity, outdate_identities
from server.storage.batch import Batch
from server.storage.database import execute, value
from tests.backfill.accounts import fetch, reset, state, stored, track, truth
from tests.backfill.watching import findings, stream_is_at

LATEST = "com.atproto.sync.getLatestCommit"
HIDDEN_AND_PURGED = (repos.LIVE, 0, "pds:purged")

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def look_into(sources, monkeypatch):
    monkeypatch.setattr(departures, "SLICE_ROWS", 2)
    return Accounts(sources, StopEvent()).run


def tell(sources, account, is_active, status):
    """An #account event, from whomever."""
    stream_is_at(sources.epoch, 0, Batch(statuses={account.did: (is_active, status)}))


@pytest.mark.parametrize("tombstone", [False, True])
def test_who_deleted_their_account_is_purged_and_nobody_else(
    net, alice, sources, look_into, tombstone
):
    posts = [alice.post(str(number)) for number in range(5)]
    bob = net.create_account("bob")
    bob.post("still here")
    track(bob)
    for account in (alice, bob):
        reset(account)
        fetch(account, sources)
    alice.delete(posts[0])
    alice.delete_account(tombstone=tombstone)
    tell(sources, alice, False, "deleted")
    assert len(stored(alice)) == 6
    look_into()
    assert (stored(alice), state(alice)) == (set(), HIDDEN_AND_PURGED)
    assert value("SELECT count(*) FROM tombstones") == 0
    assert stored(bob) == truth(bob)
    before = net.pds[0].requests[LATEST]
    look_into()
    assert net.pds[0].requests[LATEST] == before


def test_who_is_only_called_deleted_is_shown_again_with_all_their_items(alice, sources, look_into):
    tell(sources, alice, False, "deleted")
    assert state(alice) == (repos.LIVE, 0, "deleted")
    look_into()
    assert stored(alice) == truth(alice)
    assert findings() == [(alice.did, "other status")]
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 1, None)
    assert findings() == []


def test_the_word_of_a_host_that_was_left_takes_nothing_away(net, alice, sources, look_into):
    alice.migrate(1)
    alice.delete_at(0)
    alice.post("at the new home")
    tell(sources, alice, False, "deleted")
    look_into()
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert state(alice) == (repos.LIVE, 1, None)


def test_nothing_goes_while_nobody_can_be_asked(net, alice, sources, look_into):
    alice.delete_account()
    tell(sources, alice, False, "deleted")
    for fault, host in (("http-500", "pds0"), ("http-500", "plc")):
        net.faults.arm(fault, where={"host": host})
        look_into()
        assert len(stored(alice)) == 1
        assert state(alice) == (repos.LIVE, 0, "deleted")
    assert net.faults.fired["http-500"] == 2
    look_into()
    assert state(alice) == HIDDEN_AND_PURGED


def test_who_is_deactivated_and_called_deleted_is_hidden_and_kept(alice, sources, look_into):
    alice.set_status("deactivated", emit=False)
    tell(sources, alice, False, "deleted")
    look_into()
    assert (len(stored(alice)), state(alice)) == (1, (repos.LIVE, 0, "pds:deactivated"))


def test_a_pds_alone_cannot_have_anybody_purged(alice, sources, look_into):
    alice.delete_account()
    reset(alice)
    fetch(alice, sources)
    look_into()
    assert (len(stored(alice)), state(alice)) == (1, (repos.LIVE, 0, "pds:deleted"))
    alice.state.is_tombstoned = True
    look_into()
    assert (stored(alice), state(alice)) == (set(), HIDDEN_AND_PURGED)


def forget(net, account):
    """The directory answers 404, and nobody remembers where the account lives."""
    net.plc.overrides[account.did] = None
    outdate_identities([account.did], 1)


def test_a_directory_alone_cannot_have_anybody_purged(net, alice, sources, look_into):
    forget(net, alice)
    reset(alice)
    fetch(alice, sources)
    for _ in range(2):
        look_into()
        assert (len(stored(alice)), state(alice)) == (1, (repos.LIVE, 0, "pds:unlisted"))
    del net.plc.overrides[alice.did]
    look_into()
    assert findings() == [(alice.did, "other status")]
    fetch(alice, sources)
    assert (stored(alice), state(alice)) == (truth(alice), (repos.LIVE, 1, None))


def test_a_directory_that_fails_says_nothing_of_anybody(net, alice, sources, look_into):
    forget(net, alice)
    reset(alice)
    fetch(alice, sources)
    del net.plc.overrides[alice.did]
    net.faults.arm("http-500", where={"host": "plc"})
    look_into()
    assert net.faults.fired["http-500"] == 1
    assert (len(stored(alice)), state(alice)) == (1, (repos.LIVE, 0, "pds:unlisted"))


def test_a_tombstone_of_the_directory_is_the_end(net, alice, sources, look_into):
    forget(net, alice)
    reset(alice)
    fetch(alice, sources)
    alice.state.is_tombstoned = True
    look_into()
    assert state(alice) == (repos.LIVE, 0, "pds:deleted")
    look_into()
    assert (stored(alice), state(alice)) == (set(), HIDDEN_AND_PURGED)


def test_whom_the_directory_does_not_know_is_purged_once_the_stream_says_so_too(
    net, alice, sources, look_into
):
    forget(net, alice)
    reset(alice)
    fetch(alice, sources)
    tell(sources, alice, False, "deleted")
    look_into()
    assert (stored(alice), state(alice)) == (set(), HIDDEN_AND_PURGED)


def test_what_two_have_said_in_turn_counts_as_said_by_two(net, alice, sources, look_into):
    tell(sources, alice, False, "deleted")
    forget(net, alice)
    reset(alice)
    fetch(alice, sources)
    # The directory's word does not stand in the place of the stream's.
    assert state(alice) == (repos.LIVE, 0, "pds:deleted")
    look_into()
    assert (stored(alice), state(alice)) == (set(), HIDDEN_AND_PURGED)


def test_who_is_deleted_while_being_fetched_is_purged_after_it(alice, sources, look_into):
    alice.delete_account()
    reset(alice)
    tell(sources, alice, False, "deleted")
    look_into()
    assert len(stored(alice)) == 1
    fetch(alice, sources)
    assert state(alice) == (repos.LIVE, 0, "deleted")
    look_into()
    assert state(alice) == HIDDEN_AND_PURGED


def test_who_comes_back_while_the_pds_is_asked_keeps_everything(
    alice, sources, look_into, monkeypatch
):
    alice.set_status("deleted", emit=False)
    tell(sources, alice, False, "deleted")
    latest_rev = pds.latest_rev

    def come_back_meanwhile(*args):
        try:
            return latest_rev(*args)
        finally:
            alice.state.status = "active"
            tell(sources, alice, True, None)

    monkeypatch.setattr(pds, "latest_rev", come_back_meanwhile)
    look_into()
    monkeypatch.undo()
    assert len(stored(alice)) == 1
    fetch(alice, sources)
    assert (stored(alice), state(alice)) == (truth(alice), (repos.LIVE, 1, None))


def test_an_account_that_is_restored_after_all_is_fetched_anew(alice, sources, look_into):
    alice.set_status("deleted", emit=False)
    tell(sources, alice, False, "deleted")
    look_into()
    assert stored(alice) == set()
    alice.state.status = "active"
    tell(sources, alice, True, None)
    fetch(alice, sources)
    assert (stored(alice), state(alice)) == (truth(alice), (repos.LIVE, 1, None))


def test_a_viewer_who_deletes_their_account_is_no_viewer_any_more(viewer, sources, look_into):
    viewer.delete_account()
    tell(sources, viewer, False, "deleted")
    look_into()
    assert viewers.find(viewer.did) is None
    assert value("SELECT count(*) FROM follows") == 0
    assert state(viewer) == HIDDEN_AND_PURGED


def test_an_identity_event_brings_the_new_name_home_and_key(net, alice, sources, look_into):
    old = load_identity(alice.did)
    look_into()
    assert load_identity(alice.did) == old
    alice.migrate(1)
    alice.change_handle("alice.example.com")
    outdate_identities([alice.did], 1)
    look_into()
    new = load_identity(alice.did)
    assert (new.handle, new.pds_url) == ("alice.example.com", net.pds[1].url)
    assert new.signing_key != old.signing_key
    assert new.checked_us > old.checked_us


@pytest.mark.by_hand
def test_identities_are_looked_up_a_few_at_a_time_and_all_in_turn(
    net, alice, sources, look_into, monkeypatch
):
    monkeypatch.setattr(accounts, "IDENTITIES_A_MINUTE", 2)
    others = [net.create_account(f"a{number}") for number in range(3)]
    hidden = others.pop()
    for account in (*others, hidden):
        track(account)
        fetch(account, sources)
    execute("UPDATE repos SET is_active = 0 WHERE author_id = ?", (number_of(hidden),))
    everybody = [account.did for account in (alice, *others, hidden)]
    outdate_identities(everybody, 1)
    # The first cannot be looked up, and delays nobody.
    net.plc.overrides[alice.did] = {"id": "somebody else"}
    before = net.plc.requests.total()
    look_into()
    assert net.plc.requests.total() - before == 2
    look_into()
    fresh = [did for did in everybody if load_identity(did).checked_us > 0]
    assert fresh == [account.did for account in others]


def number_of(account):
    return author_ids([account.did])[account.did]


def test_a_process_that_is_to_stop_asks_nobody(net, alice, sources):
    alice.delete_account()
    tell(sources, alice, False, "deleted")
    stop = StopEvent()
    stop.set()
    before = net.plc.requests.total()
    Accounts(sources, stop).run()
    assert net.plc.requests.total() == before
    assert len(stored(alice)) == 1
