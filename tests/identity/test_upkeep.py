"""Viewers' identities are looked up before they come, and web processes notice."""

import threading

import pytest

from server.core.errors import FetchFailed
from server.identity.cache import IdentityCache
from server.identity.entry import COMPARE_S, FRESH_S
from server.identity.upkeep import AWAY_S, CHECK_AFTER_S, IdentityUpkeep
from server.storage import authors, viewers
from server.storage.forget import forget
from tests.identity.builders import make_document, numbered


@pytest.fixture
def upkeep(db, directory, clock):
    return IdentityUpkeep(directory, threading.Event(), clock)


def welcome(directory, clock, *dids):
    for did in dids:
        directory.documents[did] = make_document(did)
        viewers.welcome(did, clock())


def test_a_viewer_is_looked_up_before_a_web_process_would_do_it(upkeep, directory, clock):
    welcome(directory, clock, numbered(1))
    assert upkeep.check_some() == 1
    clock.pass_s(CHECK_AFTER_S - 1)
    assert upkeep.check_some() == 0
    clock.pass_s(2)
    assert upkeep.check_some() == 1
    assert directory.asked == [numbered(1)] * 2
    cache = IdentityCache(directory, authors, clock)
    clock.pass_s(FRESH_S - 10)
    assert cache.get(numbered(1)).did == numbered(1)
    assert len(directory.asked) == 2


def test_a_changed_document_is_looked_up_in_the_next_round(upkeep, directory, clock):
    welcome(directory, clock, numbered(1), numbered(2))
    upkeep.check_some()
    authors.outdate_identities([numbered(2)], clock())
    clock.pass_s(60)
    upkeep.check_some()
    assert directory.asked == [numbered(1), numbered(2), numbered(2)]
    stored = authors.load_identity(numbered(2))
    assert stored is not None
    assert stored.checked_us == clock()


def test_whoever_stays_away_and_whose_host_is_their_own_is_left_alone(upkeep, directory, clock):
    welcome(directory, clock, numbered(1), "did:web:slow.example.com")
    clock.pass_s(AWAY_S + 1)
    welcome(directory, clock, numbered(2))
    upkeep.check_some()
    assert directory.asked == [numbered(2)]


def test_what_cannot_be_looked_up_holds_nobody_up(upkeep, directory, clock, monkeypatch):
    monkeypatch.setattr("server.identity.upkeep.MAX_LOOKUPS", 2)
    dids = [numbered(number) for number in range(5)]
    welcome(directory, clock, *dids)
    directory.documents[dids[0]] = directory.documents[dids[1]] = FetchFailed("down")
    assert [upkeep.check_some() for _ in range(3)] == [0, 2, 1]
    # The next round tries again.
    assert upkeep.check_some() == 0
    assert directory.asked == [*dids, dids[0], dids[1]]


def test_who_is_forgotten_while_the_directory_is_asked_stays_forgotten(
    upkeep, directory, clock, monkeypatch
):
    welcome(directory, clock, numbered(1))
    resolve = directory.resolve

    def forget_meanwhile(did, within_s):
        forget(did)
        return resolve(did, within_s)

    monkeypatch.setattr(directory, "resolve", forget_meanwhile)
    upkeep.check_some()
    assert directory.asked == [numbered(1)]
    assert authors.load_identity(numbered(1)) is None


def test_a_round_ends_when_the_process_does(db, directory, clock):
    stop = threading.Event()
    stop.set()
    welcome(directory, clock, numbered(1))
    assert IdentityUpkeep(directory, stop, clock).check_some() == 0
    assert directory.asked == []


def test_a_web_process_notices_within_a_minute_that_a_document_has_changed(
    db, directory, clock, make
):
    did = numbered(1)
    welcome(directory, clock, did)
    cache = IdentityCache(directory, authors, clock)
    old = cache.get(did).signing_key
    clock.pass_s(120)
    cache.get(did)
    # What ingest does when the stream says #identity.
    directory.documents[did] = make_document(did, make.k256().multikey)
    authors.outdate_identities([did], clock())
    clock.pass_s(COMPARE_S - 1)
    assert cache.get(did).signing_key == old
    clock.pass_s(2)
    assert cache.get(did).signing_key != old
    assert directory.asked == [did] * 2


def test_a_web_process_takes_over_what_another_one_found(db, directory, clock, make):
    did = numbered(1)
    welcome(directory, clock, did)
    first, second = (IdentityCache(directory, authors, clock) for _ in range(2))
    first.get(did), second.get(did)
    clock.pass_s(61)
    directory.documents[did] = make_document(did, make.k256().multikey)
    new = first.refresh(did).signing_key
    clock.pass_s(COMPARE_S)
    assert second.get(did).signing_key == new
    assert len(directory.asked) == 2
