"""What is saved may be of a time that is still to come: clocks were ahead, and are right again."""

import asyncio
import time

import pytest

from server.core.events import UNTOLD, Commit
from server.core.setting_values import JETSTREAM_V1_PATH, RELAY_PATH
from server.core.syntax import int_to_tid
from server.ingest import start
from server.ingest.source import source_of
from server.ingest.writer import MAX_AHEAD_MS
from server.storage.cursors import StreamCursor, load_cursor, load_position, save_cursor
from simnet.frames import message
from tests.builders import did, iso, track
from tests.ingest import test_writer
from tests.ingest.asking import item_count, reasons
from tests.ingest.conftest import wait_until
from tests.ingest.frames import commit_frame
from tests.ingest.jetstream_messages import v1
from tests.ingest.test_unreadable import Told
from tests.ingest.test_websocket import serving, wait_closed

HOUR_MS = 3_600_000

pytestmark = pytest.mark.usefixtures("db")


def now_ms():
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("is_said", [True, False])
def test_a_cursor_of_a_time_to_come_is_not_saved_again(lease, is_said):
    told = Told(lease.epoch, now_ms() + HOUR_MS)
    told.tell(v1(time_us=(now_ms() if is_said else now_ms() + HOUR_MS) * 1000))
    told.reading.ended()
    assert told.cursor.event_ms <= now_ms()


def test_somebody_who_writes_much_does_not_say_what_time_it_is_in_what_is_read_late(lease):
    """Strangers are passed over, but for the last one of a read: of ours every word is heard."""
    track("alice")
    hour_ago_ms = now_ms() - HOUR_MS
    told = Told(lease.epoch, hour_ago_ms, RELAY_PATH)
    told.reading.writer.tracked.refresh()
    stranger, seq = did("stranger"), iter(range(1, 1000))

    def said(time_ms, repo):
        rev = int_to_tid(hour_ago_ms * 1000 << 10)
        body = {"seq": next(seq), "time": iso(time_ms), "rev": rev, "ops": []}
        one = message("#identity", body | {"did": repo})
        return [commit_frame(**body, repo=repo), one]

    for _ in range(10):
        frames = [frame for _ in range(20) for frame in said(hour_ago_ms, stranger)]
        told.tell(*frames[:-1], *said(now_ms(), did("alice")) * 9, frames[-1])
    assert told.reading.place.event_ms(now_ms()) == hour_ago_ms


def find(monkeypatch, path, newest_ms, clock_ms):
    """Where a source that is at `newest_ms` is read from, by such a clock of ours."""

    async def probe(source, user_agent, cursor):
        return None if newest_ms is None else start.Found(1_000_000, newest_ms)

    monkeypatch.setattr(start, "probe", probe)
    source = source_of(f"wss://other.test{path}", "Gapless/test")
    return asyncio.run(start.find_start(source, "Gapless/test", clock_ms))


@pytest.mark.parametrize("path", [JETSTREAM_V1_PATH, RELAY_PATH])
@pytest.mark.parametrize("is_silent", [True, False])
def test_what_was_saved_by_clocks_that_were_ahead_is_a_hole(monkeypatch, path, is_silent):
    true_ms = now_ms()
    save_cursor(StreamCursor("one.test", 7, true_ms + HOUR_MS), true_ms * 1000)
    found = find(monkeypatch, path, None if is_silent else true_ms, true_ms)
    assert (found.cursor, found.saved_ms) == (None, true_ms)
    assert found.hole == "what is saved is of a time to come"


@pytest.mark.parametrize("path", [JETSTREAM_V1_PATH, RELAY_PATH])
def test_a_clock_that_is_behind_makes_no_hole(monkeypatch, path):
    true_ms = now_ms()
    save_cursor(StreamCursor("one.test", 7, true_ms), true_ms * 1000)
    found = find(monkeypatch, path, true_ms - start.OVERLAP_MS, true_ms - HOUR_MS)
    assert (found.hole, found.saved_ms) == (None, true_ms)
    assert found.cursor is not None


def test_there_is_one_hole_and_what_is_saved_then_is_believed(reading):
    track("alice")
    ahead_ms = now_ms() + HOUR_MS

    def talk(connection):
        for _ in range(start.PROBE_EVENTS):
            connection.send(v1(time_us=now_ms() * 1000))
        wait_closed(connection)

    save_cursor(StreamCursor("gone.test", 7, ahead_ms), 1)
    with serving(talk) as url:
        source = source_of(url.replace("/path", JETSTREAM_V1_PATH), "Gapless/test")
        save_cursor(StreamCursor(source.name, ahead_ms * 1000, ahead_ms, has_chain=False), 1)
        with reading(source.url):
            wait_until(lambda: (one := load_cursor(source.name)) and one.event_ms < ahead_ms)
            position = load_position()
    assert reasons() == [(None, "what is saved is of a time to come")]
    assert position.host == source.name
    assert position.event_ms <= now_ms()


@pytest.mark.parametrize("merge", [None, test_writer.merged], ids=["alone", "hedged"])
@pytest.mark.parametrize("has_chain", [True, False])
def test_a_commit_of_a_time_to_come_makes_us_deaf_to_nobody(has_chain, merge, monkeypatch):
    """As of a relay that believes any rev: the next ones that are true are earlier."""
    monkeypatch.setattr(test_writer.merge, "REORDER_SECONDS", 0)
    told = test_writer.begin({("live", ()): "ann"}, merge and merge())
    told.has_chain, ann = has_chain, did("ann")
    far = (now_ms() + 2 * MAX_AHEAD_MS) * 1000 << 10
    told.place.note(1, now_ms())
    told.writer.add(told.place, Commit(1, now_ms(), ann, far, 1 if has_chain else UNTOLD, ()), 0)
    told.writer.commit()
    assert reasons() == [(ann, "sync")]
    test_writer.read_anew(told, {"": "ann"}, behind=0)
    told.tell("ann", "commit")
    told.writer.commit()
    assert item_count() == 1


@pytest.mark.parametrize("ahead_ms", [MAX_AHEAD_MS // 2, HOUR_MS])
def test_a_commit_that_is_of_now_by_its_source_is_believed(ahead_ms):
    """Where our clock is behind."""
    told = test_writer.begin({("live", ()): "ann"})
    said_ms = now_ms() + ahead_ms
    told.place.note(1, said_ms)
    told.writer.add(told.place, Commit(1, said_ms, did("ann"), said_ms * 1000 << 10, 1, ()), 0)
    told.writer.commit()
    assert reasons() == []
