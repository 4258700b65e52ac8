"""The time by which a Jetstream is asked to go on, one connection after the other."""

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from server.core.setting_values import JETSTREAM_V1_PATH
from server.ingest.start import OVERLAP_MS
from server.storage.repos import ITEMS
from tests.builders import did, iso
from tests.ingest.asking import reasons
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import v1
from tests.ingest.test_unreadable import Told
from tests.ingest.test_websocket import serving

HOUR_MS = 3_600_000

pytestmark = pytest.mark.usefixtures("db", "brisk")


def test_a_source_that_is_cut_while_it_says_again_what_is_saved_is_not_asked_further_back(reading):
    begin_us = time.time_ns() // 1000 - HOUR_MS * 1000
    asked = []

    def talk(connection):
        query = parse_qs(urlsplit(connection.request.path).query)
        (cursor,) = query.get("cursor", [begin_us])
        asked.append(int(cursor))
        for second in range(20):
            time_us = int(cursor) + second * 1_000_000
            connection.send(v1(did="did:web:somebody.test", time_us=time_us))

    with serving(talk) as url, reading(url.replace("/path", JETSTREAM_V1_PATH)):
        wait_until(lambda: len(asked) > 4)
    assert min(asked) >= begin_us - OVERLAP_MS * 1000


@pytest.fixture
def told(lease):
    """A connection that asked to go on at a moment an hour ago; alice is tracked."""
    told = Told(lease.epoch, time.time_ns() // 1_000_000 - HOUR_MS)
    told.reading.wants[did("alice")] = ITEMS
    return told


def of_account(time_ms, host_ms):
    """What a Jetstream tells of alice at a moment, as her host told it at another one."""
    account = {"active": True, "did": did("alice"), "seq": 1, "time": iso(host_ms)}
    return v1("account", account, time_us=time_ms * 1000)


def test_a_host_that_is_behind_hides_no_hole(told):
    """By its clock we were there already; by that of the source half an hour is missing."""
    saved_ms = told.reading.start.saved_ms
    told.tell(of_account(saved_ms + HOUR_MS // 2, saved_ms - 1000))
    told.tell(v1(time_us=(saved_ms + HOUR_MS // 2) * 1000))
    assert reasons() == [(None, "cursor outdated")]


def test_a_host_that_is_ahead_vouches_for_nothing(told):
    saved_ms = told.reading.start.saved_ms
    told.tell(of_account(saved_ms, saved_ms + HOUR_MS))
    told.reading.ended()
    assert (told.cursor.event_ms, reasons()) == (saved_ms, [])


def test_one_message_of_a_time_to_come_keeps_no_cursor_back(told):
    saved_ms = told.reading.start.saved_ms
    for second in (*range(20), 2 * HOUR_MS // 1000):
        told.tell(v1(time_us=(saved_ms + second * 1000) * 1000))
    told.reading.writer.commit()
    for second in range(20, 40):
        told.tell(v1(time_us=(saved_ms + second * 1000) * 1000))
    told.reading.writer.commit()
    assert told.cursor.event_ms > saved_ms + 20_000
