"""How long a job's turn is, and that it gets somewhere."""

from threading import Event as StopEvent

import pytest

from server.backfill import author, pds
from server.backfill.author import Backfill
from server.storage import repos
from server.storage.database import value
from tests.backfill.accounts import fetch, state, stored, track, truth
from tests.builders import job_of_did

pytestmark = pytest.mark.usefixtures("db")


def test_a_turn_ends_when_its_time_is_over_and_a_page_further(net, sources, monkeypatch):
    monkeypatch.setattr(author, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(pds, "FIRST_RECORDS", 3)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 3)
    alice = net.create_account("alice")
    for number in range(11):
        alice.post(str(number))
    track(alice)
    # The newest page, two in full, what is left, and an empty one.
    for held in (3, 6, 9, 11, 11):
        job = job_of_did(alice.did, sources.epoch)
        Backfill(job, sources, StopEvent()).run()
        assert len(stored(alice)) == held
    assert state(alice) == (repos.LIVE, 1, None)


def test_a_viewers_turn_that_is_over_comes_to_the_newest_pages(net, sources, monkeypatch):
    monkeypatch.setattr(author, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(pds, "PAGE_RECORDS", 2)
    viewer = net.create_account("viewer")
    for number in range(3):
        viewer.post(str(number))
        viewer.follow(net.create_account(f"friend{number}"))
    track(viewer, repos.ITEMS | repos.FOLLOWS)
    fetch(viewer, sources)
    assert value("SELECT count(*) FROM follows") == 3
    assert stored(viewer) == truth(viewer)
