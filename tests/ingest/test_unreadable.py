"""Messages that nobody can read: holes, but not one for each, and the end of the connection."""

import pytest

from server.core.errors import StreamBroken
from server.core.metrics import IngestMetrics
from server.ingest.counters import SourceCounters
from server.ingest.reading import MAX_UNREADABLE, Reading
from server.ingest.source import source_of
from server.ingest.start import Start
from server.ingest.tracked import TrackedSet
from server.ingest.writer import BatchWriter
from server.storage.cursors import load_cursor
from tests.builders import NOW_MS
from tests.ingest.asking import item_count, queued, reasons, wait_for_all
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import v1

pytestmark = pytest.mark.usefixtures("db")

BAD, GOOD = "no JSON", v1()


class Told:
    """A connection to a Jetstream 1 that stands, and hands over what it is told."""

    def __init__(self, epoch):
        source = source_of("wss://jetstream.test/subscribe", "Gapless/test")
        self.counters = SourceCounters()
        writer = BatchWriter(TrackedSet(), epoch, IngestMetrics())
        start = Start(NOW_MS * 1000, NOW_MS)
        self.reading = Reading(source, start, writer, self.counters, lambda: False, None, None)
        self.reading.opened(None)

    def tell(self, *messages):
        """All at once."""
        data, spans = b"", []
        for message in messages:
            spans.append((len(data), len(data) + len(message)))
            data += message.encode()
        self.reading.messages(memoryview(data), spans, is_text=True)

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


def test_a_source_of_which_nothing_can_be_read_is_left_and_not_asked_for_the_same_again(told):
    told.tell(GOOD, *[BAD] * (MAX_UNREADABLE - 1))
    told.reading.writer.commit()
    assert told.cursor is not None
    with pytest.raises(StreamBroken, match="10 messages in a row cannot be read: not a message"):
        told.tell(BAD, BAD)
    told.reading.ended()
    assert told.cursor is None
    assert told.counters.bad_messages == MAX_UNREADABLE


def test_a_source_that_can_be_read_now_and_then_is_not_left(told):
    for _ in range(3):
        told.tell(*[BAD] * (MAX_UNREADABLE - 1), GOOD)
    told.reading.ended()
    assert told.cursor.seq == told.reading.place.seq > 0


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
