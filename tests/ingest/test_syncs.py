"""The rev that a `#sync` names: from any source, as far as the batch that is saved."""

import pytest

from server.core.syntax import last_tid_of, tid_to_int
from server.ingest.jetstream import decode_v2
from server.ingest.relay import decode_frame
from server.storage.repos import ITEMS
from simnet.frames import message
from tests.builders import NOW_MS, did, iso, tid
from tests.ingest.jetstream_messages import v2
from tests.ingest.test_writer import begin

ALICE = did("alice")
WANTS = {ALICE: ITEMS}


def of_relay(**rev):
    body = {"seq": 1, "did": ALICE, "time": iso(NOW_MS), "blocks": b"", **rev}
    return decode_frame(message("#sync", body), WANTS)


def of_jetstream(**rev):
    inner = {"seq": 1, "did": ALICE, "time": iso(NOW_MS), **rev}
    return decode_v2(v2("sync", {"sync": inner}), WANTS)


@pytest.mark.parametrize("told", [of_relay, of_jetstream])
@pytest.mark.parametrize(
    ("told_rev", "rev"),
    [
        ({"rev": tid(-7)}, tid_to_int(tid(-7))),
        ({}, 0),
        *[({"rev": odd}, 0) for odd in (None, 5, "", "x" * 13, tid(1) + "2")],
    ],
)
def test_a_sync_names_the_rev_at_which_the_repo_stands_or_none(told, told_rev, rev):
    event = told(**told_rev)
    assert (event.repo, event.time_ms, event.rev) == (ALICE, NOW_MS, rev)


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("told", [of_relay, of_jetstream])
def test_what_is_saved_knows_the_rev_and_what_may_have_come_before(told):
    reader = begin({("live", ()): "alice"})
    # Of the moment of the repo's own clock, as its revs are, also where ours is behind.
    reader.writer.add(reader.place, told(rev=tid(-7)), NOW_MS - 3_600_000)
    reader.writer.add(reader.place, told(), NOW_MS)
    known, unknown = reader.writer.batch.parts()
    assert known.put_back == {ALICE: (tid_to_int(tid(-7)), last_tid_of(NOW_MS))}
    assert (unknown.resets, unknown.put_back) == ({ALICE}, {})


def test_the_last_tid_of_a_moment_is_before_the_first_of_the_next():
    assert tid_to_int(tid(-1)) < last_tid_of(NOW_MS - 1) < tid_to_int(tid(0))
    assert last_tid_of(NOW_MS - 1) + 1 == tid_to_int(tid(0))
