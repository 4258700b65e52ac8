"""What was recorded from the official PDS, and the same told lap after lap for the benchmarks."""

import pytest

from benchmarks.rig import recording
from server.core.events import Account, Commit
from server.core.syntax import FOLLOW, POST, REPOST
from server.ingest.relay import decode_frame
from server.storage.repos import FOLLOWS, ITEMS
from tests.devnet.record import recorded
from tests.ingest.frames import slow_decode

LAPS = 3
ALL = ITEMS | FOLLOWS


@pytest.fixture(scope="module")
def retold():
    return recording.load(LAPS * len(recorded()))


@pytest.fixture(scope="module")
def events(retold):
    wants = dict.fromkeys(retold.revs, ALL)
    return [slow_decode(frame, wants) for frame in retold.frames]


def test_all_that_a_pds_says_is_in_it(events):
    said = {
        (op.collection, "delete" if op.cid is None else "write")
        for event in events
        if isinstance(event, Commit)
        for op in event.ops
    }
    assert said == {(name, what) for name in (POST, REPOST, FOLLOW) for what in ("write", "delete")}
    statuses = {(event.active, event.status) for event in events if isinstance(event, Account)}
    gone = {(False, status) for status in ("deactivated", "takendown", "deleted")}
    assert statuses == {(True, None), *gone}


def test_told_again_it_is_as_sound_as_it_was(retold, events):
    wants = dict.fromkeys(retold.revs, ALL)
    for frame, event in zip(retold.frames, events, strict=True):
        # With holes, if a record were not what its CID says.
        assert decode_frame(frame, wants) == event


def test_each_lap_tells_the_same_of_other_people_at_a_later_time(retold, events):
    length = len(recorded())
    assert [event.seq for event in events] == list(
        range(retold.first_seq, retold.first_seq + LAPS * length)
    )
    people = [{event.repo for event in events[lap * length :][:length]} for lap in range(LAPS)]
    assert set.union(*people) == retold.revs.keys()
    assert len(retold.revs) == LAPS * len(people[0])
    starts = [events[lap * length].time_ms for lap in range(LAPS)]
    ends = [event.time_ms for event in events[length - 1 :: length]]
    assert starts[0] == retold.start_ms
    assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True))
