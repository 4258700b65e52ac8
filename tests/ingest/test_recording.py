"""What was recorded from the official PDS, and the same told lap after lap for the benchmarks."""

import libipld
import pytest

from benchmarks.rig import recording
from server.core.events import Account, Commit, Sync
from server.core.projection import project_op
from server.core.syntax import FOLLOW, POST, REPOST
from server.ingest.jetstream import decode_v1, decode_v2
from server.ingest.relay import decode_frame
from server.storage.repos import FOLLOWS, ITEMS
from simnet.jetstream import message_v1, message_v2
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


@pytest.mark.parametrize(
    ("render", "decode", "untold"), [(message_v1, decode_v1, Sync), (message_v2, decode_v2, ())]
)
def test_a_jetstream_tells_the_same_one_by_one(retold, events, render, decode, untold):
    told = list(recording.events(retold.count))
    assert len(told) == retold.events
    wants = dict.fromkeys(retold.revs, ALL)
    texts = filter(None, map(render, told))
    found = [meaning for text in texts for meaning in _meanings(decode(text, wants))]
    assert found == [
        meaning for event in events if not isinstance(event, untold) for meaning in _meanings(event)
    ]


def test_each_event_of_a_jetstream_has_a_time_of_its_own(retold):
    times = [event["seq"] for event in recording.events(retold.count)]
    assert times == sorted(set(times))
    assert times[0] // 1000 == retold.start_ms
    assert times[-1] == retold.last_us


def test_a_recording_that_is_cut_short_ends_where_both_jetstreams_do():
    kinds = [_kind(frame) for frame in recorded()]
    count = len(kinds) + kinds.index("#sync") + 1
    told = list(recording.events(count))
    assert told[-1]["kind"] == "sync"
    assert told[-2]["seq"] == recording.load(count, with_frames=False).last_us


def _meanings(event):
    """An event op by op, without what a Jetstream does not tell of it."""
    if not isinstance(event, Commit):
        return [(type(event), event.repo, event.time_ms)]
    place = (event.repo, event.rev, event.time_ms)
    return [(*place, project_op(op, event.time_ms)) for op in event.ops]


def _kind(frame):
    head, _ = libipld.decode_dag_cbor_multi(frame)
    return head["t"]
