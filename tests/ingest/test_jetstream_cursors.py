"""The time by which a Jetstream is asked to go on, one connection after the other."""

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from server.core.setting_values import JETSTREAM_V1_PATH
from server.ingest.start import OVERLAP_MS
from tests.ingest.conftest import wait_until
from tests.ingest.jetstream_messages import v1
from tests.ingest.test_websocket import serving

pytestmark = pytest.mark.usefixtures("db", "brisk")


def test_a_source_that_is_cut_while_it_says_again_what_is_saved_is_not_asked_further_back(reading):
    begin_us = time.time_ns() // 1000 - 3_600_000_000
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
