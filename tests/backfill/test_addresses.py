"""Where a repo lives: when the directory is asked, and when what we know is believed."""

from threading import Event as StopEvent

import pytest

from server.backfill.author import BELIEVED_RESTS, Backfill
from server.core.errors import FetchFailed, HostRests
from server.storage import repos
from server.storage.database import execute
from server.storage.jobs import fail
from tests.backfill.accounts import fetch, reset, state, stored, track, truth
from tests.builders import NOW_US, job_of_did

pytestmark = pytest.mark.usefixtures("db")


@pytest.mark.parametrize("fault", ["http-500", "http-429"])
def test_where_a_repo_lives_is_asked_after_a_failure_and_not_when_a_host_wants_rest(
    net, alice, sources, fault
):
    reset(alice)
    net.faults.arm(fault, where={"host": "pds0"}, times=1)
    asked = net.plc.requests.total()
    job = job_of_did(alice.did, sources.epoch)
    with pytest.raises(FetchFailed):
        Backfill(job, sources, StopEvent()).run()
    fail(job, "", NOW_US)
    # It is left alone now, and refused without being asked.
    job = job_of_did(alice.did, sources.epoch)
    assert (net.faults.fired[fault], job.attempts) == (1, 1)
    if fault == "http-429":
        with pytest.raises(HostRests):
            Backfill(job, sources, StopEvent()).run()
    else:
        fetch(alice, sources)
    assert net.plc.requests.total() - asked == (1 if fault == "http-500" else 0)


def test_a_host_that_asks_for_nothing_but_rest_is_doubted_in_the_end(net, alice, sources):
    alice.migrate(1)
    reset(alice)
    net.faults.arm("http-429", where={"host": "pds0"}, times=None)
    for turn in range(BELIEVED_RESTS):
        job = job_of_did(alice.did, sources.epoch)
        assert job.attempts == turn
        with pytest.raises(HostRests):
            Backfill(job, sources, StopEvent()).run()
        fail(job, "", NOW_US)
    with pytest.raises(FetchFailed, match="moved"):
        Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    fetch(alice, sources)
    assert net.faults.fired["http-429"] >= 1
    assert stored(alice) == truth(alice)


def test_a_repo_that_left_a_dead_host_is_found_by_its_next_turn(net, alice, sources):
    execute("UPDATE authors SET pds_url = ?", ("http://127.0.0.1:9",))
    reset(alice)
    alice.post("where it lives")
    with pytest.raises(FetchFailed, match="moved"):
        Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    fetch(alice, sources)
    assert stored(alice) == truth(alice)


def test_who_is_gone_from_the_directory_and_whose_host_is_dead_is_hidden(net, alice, sources):
    reset(alice)
    alice.state.is_tombstoned = True
    net.faults.arm("http-500", where={"host": "pds0"}, times=None)
    Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    assert net.faults.fired["http-500"] == 1
    assert state(alice) == (repos.LIVE, 0, "pds:deleted")


def test_while_the_directory_is_down_a_failure_stays_what_it_is(net, alice, sources):
    reset(alice)
    net.faults.arm("http-500", where={"host": "pds0"})
    net.faults.arm("http-503-html", where={"host": "plc"})
    with pytest.raises(FetchFailed, match="500"):
        Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    assert net.faults.fired == {"http-500": 1, "http-503-html": 1}


def test_the_address_that_was_looked_up_is_known_also_after_a_failure(net, sources):
    alice = net.create_account("alice")
    track(alice)
    net.faults.arm("http-500", where={"host": "pds0"})
    with pytest.raises(FetchFailed, match="500"):
        Backfill(job_of_did(alice.did, sources.epoch), sources, StopEvent()).run()
    assert job_of_did(alice.did, sources.epoch).pds_url == alice.pds.url
