"""Messages that nobody can read: holes, but not one for each, and the end of the connection."""

import logging
import time

import pytest

from server.core.errors import StreamUnreadable
from server.core.metrics import IngestMetrics
from server.core.setting_values import JETSTREAM_V1_PATH, JETSTREAM_V2_PATH
from server.ingest import doubts, start
from server.ingest import reading as reading_module
from server.ingest.breaks import kind_of
from server.ingest.counters import SourceCounters
from server.ingest.doubts import MAX_DOUBTED, MAX_UNREADABLE
from server.ingest.reading import MAX_INFOS, Reading
from server.ingest.source import source_of
from server.ingest.start import Start
from server.ingest.tracked import TrackedSet
from server.ingest.writer import BatchWriter
from server.storage.cursors import StreamCursor, load_cursor, save_cursor
from server.storage.database import write_transaction
from tests.builders import NOW_MS
from tests.ingest.asking import item_count, queued, reasons, wait_for_all
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import v1, v2

pytestmark = pytest.mark.usefixtures("db")

BAD, GOOD = "no JSON", v1()


class Told:
    """A connection to a Jetstream that stands, and hands over what it is told."""

    def __init__(self, epoch, saved_ms=NOW_MS, path=JETSTREAM_V1_PATH, quiet_s=None):
        source = source_of(f"wss://jetstream.test{path}", "Gapless/test")
        self.counters = SourceCounters()
        writer = BatchWriter(TrackedSet(), epoch, IngestMetrics())
        start = Start(saved_ms * 1000, saved_ms)
        self.reading = Reading(source, start, writer, self.counters, lambda: False, quiet_s, None)
        self.reading.opened(None)

    def tell(self, *messages):
        """All at once, in one read."""
        self.reading.arrived()
        for _ in self.hand_over(*messages):
            pass

    def hand_over(self, *messages):
        """The steps in which they are taken in."""
        data, spans = b"", []
        for message in messages:
            spans.append((len(data), len(data) + len(message)))
            data += message if isinstance(message, bytes) else message.encode()
        is_text = isinstance(messages[0], str)
        return self.reading.messages(memoryview(data), spans, is_text=is_text)

    @property
    def cursor(self):
        return load_cursor(self.reading.source.name)


@pytest.fixture
def told(lease):
    return Told(lease.epoch)


def test_what_cannot_be_read_at_once_is_one_hole(told):
    told.tell(BAD, GOOD, *[BAD] * 5)
    assert (len(reasons()), told.counters.bad_messages) == (1, 6)
    told.tell(GOOD, BAD)
    # Between the two somebody may have been confirmed, and fetched.
    assert (len(reasons()), told.counters.bad_messages) == (2, 7)


def test_what_came_in_one_read_is_one_hole_in_however_many_turns_it_is_taken_in(told):
    """Whoever is fetched for the hole is fetched later than all of it was sent."""
    told.reading.arrived()
    for _ in range(3):
        for _ in told.hand_over(BAD, GOOD):
            pass
    assert (len(reasons()), told.counters.bad_messages) == (1, 3)


def test_a_source_of_which_nothing_can_be_read_is_left(told):
    told.tell(GOOD, *[BAD] * (MAX_UNREADABLE - 1))
    match = "10 messages in a row cannot be read: not a message"
    with pytest.raises(StreamUnreadable, match=match) as left:
        told.tell(BAD, BAD)
    assert told.counters.bad_messages == MAX_UNREADABLE
    assert (kind_of(left.value), len(reasons())) == ("unreadable", 2)
    # What was told before is saved: whoever is read next goes on from there.
    told.reading.ended()
    assert told.cursor.seq == told.reading.place.seq > 0


def test_a_source_that_can_be_read_now_and_then_is_not_left(told):
    for _ in range(3):
        told.tell(*[BAD] * (MAX_UNREADABLE - 1), GOOD)
    told.reading.ended()
    assert told.cursor.seq == told.reading.place.seq > 0


def test_a_source_with_something_unreadable_in_each_read_is_left_if_there_is_another(lease, told):
    other = Told(lease.epoch, quiet_s=60.0)
    for _ in range(MAX_DOUBTED - 1):
        other.tell(GOOD, BAD, BAD, GOOD)
    with pytest.raises(StreamUnreadable, match="again and again"):
        other.tell(GOOD, BAD)
    for _ in range(MAX_DOUBTED * 2):
        told.tell(GOOD, BAD)


def test_a_few_unreadable_messages_now_and_then_are_no_reason_to_leave(lease, monkeypatch):
    monkeypatch.setattr(doubts, "DOUBTED_SECONDS", 0.0)
    told = Told(lease.epoch, quiet_s=60.0)
    for _ in range(MAX_DOUBTED * 2):
        told.tell(GOOD, BAD)


def test_what_a_source_says_of_itself_counts_once_however_often_it_is_said(lease, caplog):
    caplog.set_level(logging.INFO, logger=reading_module.__name__)
    told = Told(lease.epoch, path=JETSTREAM_V2_PATH)
    infos = [v2("info", {"name": str(number)}) for number in range(MAX_INFOS * 2)]
    told.tell(*[v2("info", {"name": "OutdatedCursor"}), v2()] * 3, *infos * 2)
    assert (told.counters.gaps, reasons()) == (1, [(None, "cursor outdated")])
    said = [one for one in caplog.records if one.getMessage().startswith("info of the source")]
    assert len(said) == MAX_INFOS - 1


def test_a_hole_is_told_of_however_much_else_was_said_before(lease):
    told = Told(lease.epoch, path=JETSTREAM_V2_PATH)
    infos = [v2("info", {"name": str(number)}) for number in range(MAX_INFOS)]
    told.tell(*infos, *[v2("info", {"name": "OutdatedCursor"}), v2()] * 3)
    assert (told.counters.gaps, reasons()) == (1, [(None, "cursor outdated")])


def test_reading_gets_past_any_number_of_frames_that_cannot_be_read(
    net, alice, bob, at_rest, reading
):
    for _ in range(MAX_UNREADABLE * 3):
        net.relay.stream.inject("garbage")
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: alice.post("after") and item_count())
        wait_for_all(net)
    assert counters.bad_messages == MAX_UNREADABLE
    assert counters.connections == 2
    assert queued() == {alice.did, bob.did}


def test_the_cursor_of_a_source_of_long_ago_does_not_lead_to_the_same_words_again(
    net, alice, at_rest, reading, monkeypatch
):
    """Where a source's own cursor is of no use, the furthest of all counts, however old it is."""
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    hour_ago_us = time.time_ns() // 1000 - 3_600_000_000
    with write_transaction():
        save_cursor(StreamCursor("former.test", 7, hour_ago_us // 1000), hour_ago_us)
    for _ in range(MAX_UNREADABLE):
        net.relay.stream.inject("garbage")
    with reading(net.relay.url) as running:
        (counters,) = running.subscriber.counters.values()
        wait_until(lambda: counters.connections == 2 and counters.connected_us)
        alice.post("after")
        wait_until(item_count)
        wait_for_all(net)
    assert counters.broken == {"unreadable": 1}
    assert (counters.connections, counters.bad_messages) == (2, MAX_UNREADABLE)
