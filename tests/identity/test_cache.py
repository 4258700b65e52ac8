"""When identities are looked up, and when what we have must do."""

import pytest

from server.core.errors import FetchFailed, NotFound
from server.identity.cache import PLC_STRANGERS, WEB_STRANGERS, IdentityCache
from server.identity.did import Identity
from server.storage import authors
from server.storage.authors import StoredIdentity
from server.storage.database import close_database
from server.storage.migrate import migrate
from server.storage.opening import open_database
from tests.identity.builders import numbered

DAY_S = 86_400


@pytest.fixture
def alice(make, directory):
    directory.documents[make.ALICE] = make.document(make.ALICE)
    return make.ALICE


def move(directory, did, host):
    directory.documents[did]["service"][0]["serviceEndpoint"] = f"https://{host}"


def test_one_lookup_serves_an_hour(cache, directory, clock, alice):
    first = cache.get(alice)
    clock.pass_s(3599)
    assert cache.get(alice) == first == Identity(alice, *list_of(first))
    assert directory.asked == [alice]
    move(directory, alice, "new.example.com")
    clock.pass_s(2)
    assert cache.get(alice).pds_url == "https://new.example.com"
    assert directory.asked == [alice] * 2


def list_of(identity):
    return identity.handle, identity.pds_url, identity.signing_key


def test_known_accounts_are_served_for_a_day_while_the_directory_is_down(
    cache, directory, clock, alice
):
    first = cache.get(alice)
    directory.documents[alice] = FetchFailed("down")
    clock.pass_s(DAY_S - 1)
    for _ in range(3):
        assert cache.get(alice) == first
    # The failure is remembered: not every request of a viewer asks a directory that is down.
    assert len(directory.asked) == 2
    clock.pass_s(2)
    with pytest.raises(FetchFailed, match="down"):
        cache.get(alice)


def test_an_account_that_is_gone_is_not_served_from_memory(cache, directory, clock, alice):
    cache.get(alice)
    directory.documents[alice] = NotFound("gone", "x")
    clock.pass_s(3601)
    for _ in range(2):
        with pytest.raises(NotFound) as caught:
            cache.get(alice)
        assert caught.value.name == "x"


def test_what_does_not_exist_is_remembered_for_longer_each_time(cache, directory, clock):
    did = numbered(1)
    for times_asked, wait_s in ((1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (6, 600)):
        with pytest.raises(NotFound):
            cache.get(did)
        assert len(directory.asked) == times_asked
        clock.pass_s(wait_s - 1)
        with pytest.raises(NotFound):
            cache.get(did)
        assert len(directory.asked) == times_asked
        clock.pass_s(1)


def test_a_failure_is_remembered_for_a_minute_at_most(cache, directory, clock, make):
    did = numbered(1)
    directory.documents[did] = FetchFailed("down", 7.0)
    for wait_s in (10, 20, 40, 60, 60):
        with pytest.raises(FetchFailed) as caught:
            cache.get(did)
        assert caught.value.retry_after_s == 7.0
        clock.pass_s(wait_s - 1)
        with pytest.raises(FetchFailed):
            cache.get(did)
        clock.pass_s(1)
    assert len(directory.asked) == 5
    directory.documents[did] = make.document(did)
    assert cache.get(did).did == did


@pytest.mark.parametrize("failure", [FetchFailed("no such certificate yet"), NotFound("gone", "x")])
def test_a_failure_of_a_clock_that_was_ahead_is_not_remembered_until_that_time(
    cache, directory, clock, make, failure
):
    did = numbered(1)
    directory.documents[did] = failure
    clock.pass_s(86_400)
    for _ in range(9):
        with pytest.raises(FetchFailed):
            cache.get(did)
        clock.pass_s(700)
    directory.documents[did] = make.document(did)
    clock.pass_s(-86_400)
    assert cache.get(did).did == did


def test_a_doubt_of_a_clock_that_was_ahead_does_not_last_until_that_time(
    cache, directory, clock, alice
):
    cache.get(alice)
    clock.pass_s(86_400)
    cache.forget(alice)
    clock.pass_s(-86_400 + 61)
    for _ in range(5):
        cache.get(alice)
        clock.pass_s(61)
    # Once for the doubt, and once more as nobody knows which of the two came first.
    assert len(directory.asked) == 3


def test_the_database_is_asked_before_the_directory(cache, directory, store, clock, alice):
    store.rows[alice] = StoredIdentity(alice, "h.example.com", "https://p", "zKey", clock())
    assert cache.get(alice) == Identity(alice, "h.example.com", "https://p", "zKey")
    assert directory.asked == []


def test_a_row_that_is_known_to_be_outdated_is_looked_up(cache, directory, store, clock, alice):
    store.rows[alice] = StoredIdentity(alice, "h.example.com", "https://p", "zKey", 0)
    assert cache.get(alice).pds_url == "https://pds.example.com"
    assert store.rows[alice].checked_us == clock()
    assert store.rows[alice].pds_url == "https://pds.example.com"


def test_what_another_process_looked_up_is_used(cache, directory, store, clock, alice):
    cache.get(alice)
    clock.pass_s(3601)
    store.rows[alice] = StoredIdentity(alice, None, "https://other.example.com", None, clock())
    assert cache.get(alice).pds_url == "https://other.example.com"
    assert directory.asked == [alice]


@pytest.fixture
def real_store(tmp_path):
    open_database(f"sqlite:///{tmp_path}/identity.db")
    migrate()
    yield authors
    close_database()


def test_the_database_keeps_accounts_that_it_knows_and_no_strangers(
    real_store, directory, clock, make, alice
):
    stranger = numbered(1)
    directory.documents[stranger] = make.document(stranger)
    authors.author_ids([alice])
    found = [IdentityCache(directory, authors, clock).get(did) for did in (alice, stranger)]
    kept = authors.load_identity(alice)
    assert (kept.pds_url, kept.checked_us) == (found[0].pds_url, clock())
    assert authors.author_id(stranger) is None
    # Another process has it without a look-up, until somebody doubts it.
    other = IdentityCache(directory, authors, clock)
    assert other.get(alice) == found[0]
    assert directory.asked == [alice, stranger]
    authors.outdate_identities([alice], clock())
    IdentityCache(directory, authors, clock).get(alice)
    assert directory.asked == [alice, stranger, alice]


def test_a_flood_of_strangers_uses_up_its_own_budget_only(
    cache, directory, store, clock, make, alice
):
    cache.get(alice)
    known = numbered(9999)
    store.rows[known] = StoredIdentity(known, None, None, None, 0)
    directory.documents[known] = make.document(known)
    refused = 0
    for number in range(300):
        with pytest.raises(FetchFailed) as caught:
            cache.get(numbered(number))
        refused += not isinstance(caught.value, NotFound)
    assert len(directory.asked) == PLC_STRANGERS[0]
    assert refused == 301 - PLC_STRANGERS[0]
    # Nobody else is touched by it: those in memory, in the database, or vouched for by the caller.
    clock.pass_s(0.001)
    assert cache.get(alice).did == alice
    assert cache.get(known).did == known
    mine = numbered(5000)
    directory.documents[mine] = make.document(mine)
    assert cache.get(mine, is_stranger=False).did == mine
    clock.pass_s(1)
    for number in range(300, 320):
        with pytest.raises(FetchFailed):
            cache.get(numbered(number))
    assert len(directory.asked) == PLC_STRANGERS[0] + 2 + PLC_STRANGERS[1]


def test_hosts_of_strangers_have_a_smaller_budget_of_their_own(cache, directory, alice):
    for number in range(20):
        with pytest.raises(FetchFailed):
            cache.get(f"did:web:host{number}.example.com")
    assert len(directory.asked) == WEB_STRANGERS[0]
    assert cache.get(alice).did == alice


def test_a_refresh_is_a_lookup_once_a_minute(cache, directory, clock, alice):
    cache.get(alice)
    move(directory, alice, "new.example.com")
    assert cache.refresh(alice).pds_url == "https://pds.example.com"
    clock.pass_s(61)
    for _ in range(5):
        assert cache.refresh(alice).pds_url == "https://new.example.com"
    assert len(directory.asked) == 2


def test_refreshes_of_many_accounts_have_a_budget(cache, directory, store, make):
    for number in range(30):
        did = numbered(number)
        directory.documents[did] = make.document(did)
        store.rows[did] = StoredIdentity(did, None, None, "zOld", 1)
    done = 0
    for number in range(30):
        try:
            cache.refresh(numbered(number))
            done += 1
        except FetchFailed:
            pass
    assert done == len(directory.asked) == 20


def test_a_forgotten_account_is_looked_up_at_the_next_need(cache, directory, clock, alice):
    first = cache.get(alice)
    clock.pass_s(61)
    move(directory, alice, "new.example.com")
    assert cache.get(alice) == first
    cache.forget(alice)
    assert cache.get(alice).pds_url == "https://new.example.com"
    cache.forget(numbered(1))


def test_events_about_an_account_do_not_multiply_lookups(cache, directory, clock, alice):
    cache.get(alice)
    for _ in range(120):
        cache.forget(alice)
        cache.get(alice)
        clock.pass_s(1)
    # Once at first, and then once a minute.
    assert len(directory.asked) == 2
    # The last doubt is not lost, only late.
    move(directory, alice, "new.example.com")
    clock.pass_s(60)
    assert cache.get(alice).pds_url == "https://new.example.com"


def test_a_forgotten_account_is_still_served_while_the_directory_is_down(
    cache, directory, clock, alice
):
    first = cache.get(alice)
    clock.pass_s(61)
    cache.forget(alice)
    directory.documents[alice] = FetchFailed("down")
    assert cache.get(alice) == first


def test_memory_is_bounded(cache, directory, make, monkeypatch):
    monkeypatch.setattr("server.identity.cache.MAX_IDENTITIES", 10)
    for number in range(40):
        did = numbered(number)
        directory.documents[did] = make.document(did)
        cache.get(did, is_stranger=False)
    assert len(cache._entries) == 10
    cache.get(numbered(39))
    assert len(directory.asked) == 40


def test_what_is_no_did_reaches_neither_database_nor_directory(directory, clock):
    cache = IdentityCache(directory, None, clock)
    for did in ("", "did:web:127.0.0.1", "did:plc:x", "did:key:z"):
        with pytest.raises(FetchFailed):
            cache.get(did)
        with pytest.raises(FetchFailed):
            cache.refresh(did)
    assert directory.asked == []
