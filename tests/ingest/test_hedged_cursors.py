"""Two sources read together, and what their cursors vouch for while commits wait for their turn."""

import asyncio
import time

import pytest

from server.core.events import UNTOLD, Commit, RecordOp
from server.core.metrics import IngestMetrics
from server.core.setting_values import RELAY_PATH
from server.core.syntax import POST
from server.ingest import merge
from server.ingest.comparison import Comparison
from server.ingest.counters import SourceCounters
from server.ingest.merge import Merge
from server.ingest.place import Place
from server.ingest.source import source_of
from server.ingest.start import find_start
from server.ingest.tracked import TrackedSet
from server.ingest.writer import BatchWriter
from server.storage.cursors import load_cursor, load_position
from tests.builders import did, make_live, tid, track

pytestmark = pytest.mark.usefixtures("db")

ONE, TWO, THREE = (
    source_of(f"wss://{host}.test/subscribe", "Gapless/test") for host in ("one", "two", "three")
)
RELAYS = tuple(
    source_of(f"wss://{host}.test{RELAY_PATH}", "Gapless/test") for host in ("one", "two")
)
MINUTE_MS = 60_000
MINUTES = 60


def writer_of(epoch, sources, saved_ms):
    """What reads these together; everything before `saved_ms` is saved."""
    tracked, metrics = TrackedSet(), IngestMetrics()
    tracked.refresh()
    counters = {source.name: SourceCounters() for source in sources}
    now_s = time.monotonic()
    merging = Merge(Comparison(counters, metrics, now_s), now_s, saved_ms)
    writer = BatchWriter(tracked, epoch, metrics, merging)
    for source in sources:
        writer.places[source.name] = Place(source, None, saved_ms)
    return writer


class Past:
    """An hour of alice's posts, one a minute; two sources tell of it in a moment."""

    def __init__(self, epoch):
        track("alice")
        self.begin_ms = time.time_ns() // 1_000_000 - MINUTES * MINUTE_MS
        self.writer = writer_of(epoch, (ONE, TWO), self.begin_ms)

    def tell(self, source, *minutes):
        place = self.writer.places[source.name]
        for minute in minutes:
            time_ms = self.begin_ms + minute * MINUTE_MS
            rev = 2 + minute
            ops = (RecordOp(POST, tid(rev), None, None),)
            place.note(time_ms * 1000, time_ms)
            commit = Commit(time_ms * 1000, time_ms, did("alice"), rev, UNTOLD, ops)
            self.writer.add(place, commit, time_ms)

    def vouched_minutes(self):
        found = [load_cursor(source.name) for source in (ONE, TWO)]
        return [(one.event_ms - self.begin_ms) // MINUTE_MS for one in found]


@pytest.fixture
def past(lease):
    return Past(lease.epoch)


def test_what_waits_is_told_again_after_a_crash_however_fast_the_past_was_read(past):
    past.tell(ONE, *range(MINUTES))
    past.tell(TWO, *range(MINUTES))
    past.writer.commit()
    assert len(past.writer.merge.held[did("alice")]) == MINUTES
    # Here the process dies, and any of them may be there when it comes back.
    now_ms = time.time_ns() // 1_000_000
    for source in (ONE, TWO, THREE):
        begun = asyncio.run(find_start(source, "Gapless/test", now_ms))
        assert begun.cursor <= past.begin_ms * 1000


def test_what_waits_is_told_again_whichever_of_its_tellers_is_there_after_a_crash(
    lease, monkeypatch
):
    """Both lost what comes before it, so nothing later would show that it is missing either."""
    track("alice")
    make_live("alice", epoch=lease.epoch, rev=1)
    now_ms = time.time_ns() // 1_000_000
    writer = writer_of(lease.epoch, RELAYS, now_ms)
    for source, seq in zip(RELAYS, (103, 903), strict=True):
        place = writer.places[source.name]
        ops = (RecordOp(POST, tid(3), None, None),)
        for number, rev in ((seq, 3), (seq + 1, 4)):
            place.note(number, now_ms)
            commit = Commit(number, now_ms, did("alice"), rev, rev - 1, ops)
            writer.add(place, commit, now_ms)
    begun = []
    for hold_s in (merge.HOLD_SECONDS, 0):
        monkeypatch.setattr(merge, "HOLD_SECONDS", hold_s)
        writer.commit()
        begun.append(
            [asyncio.run(find_start(one, "Gapless/test", now_ms)).cursor for one in RELAYS]
        )
    assert begun == [[102, 902], [104, 904]]


def test_what_had_its_turn_is_vouched_for(past, monkeypatch):
    past.tell(ONE, *range(MINUTES))
    past.tell(TWO, *range(MINUTES))
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0)
    past.writer.commit()
    assert min(past.vouched_minutes()) > MINUTES // 2


def test_a_source_that_is_behind_takes_nothing_back_that_another_vouched_for(past, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(merge, "REORDER_SECONDS", 0)
        past.tell(TWO, *range(7), *range(8, 40))
        past.writer.commit()
    before = load_position().event_ms
    past.tell(ONE, 7)
    past.tell(TWO, *range(40, MINUTES))
    past.writer.commit()
    assert past.writer.merge.held
    assert load_position().event_ms == before


def test_a_database_that_stands_still_is_told_of_also_while_revs_are_looked_up(past, monkeypatch):
    waited_s = []

    def look_up(dids):
        waited_s.append(past.writer.wait.look())
        return {}

    monkeypatch.setattr(merge.repos, "known_revs", look_up)
    past.tell(ONE, 1)
    past.writer.commit()
    assert len(waited_s) == 1
    assert waited_s[0] > 0
