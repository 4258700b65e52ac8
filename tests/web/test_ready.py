"""/ready says whether the service can do its job, and what is wrong when it cannot."""

import json
import time

import pytest

from simnet import Network
from tests.system.databases import SqliteFile
from tests.system.waiting import wait_until
from tests.web.conftest import make_site


@pytest.fixture
def web(tmp_path):
    """The web half alone, on a database that nobody has led yet."""
    with Network(seed=17, pds=2) as net:
        site = make_site(net, SqliteFile(tmp_path / "feeds.db"), tmp_path)
        site.service.command = "web"
        try:
            site.service.launch()
            site.service.wait_until_ready("/health")
            yield site
            assert site.service.stop() == 0
        finally:
            site.service.end()


def problem(site):
    answer = site.get("/ready")
    body = answer.json()
    assert (answer.status, body["status"]) == (503, "not ready")
    assert body.keys() == {"status", "problem"}
    return body["problem"]


def led(site, alive_s_ago, connected):
    """Write down what a leading process would have."""
    now_us = time.time_ns() // 1000
    alive_us = now_us - int(alive_s_ago * 1_000_000)
    site.database.rows("DELETE FROM leases")
    site.database.rows(
        "INSERT INTO leases (name, epoch, holder, acquired_us, alive_us, connected_us)"
        " VALUES ('ingest', 1, 'x:1', ?, ?, ?)",
        (alive_us, alive_us, alive_us if connected else None),
    )


def test_what_is_missing_is_said(web):
    assert "ingest" in problem(web)
    led(web, alive_s_ago=0, connected=False)
    assert problem(web) == "the stream is not connected"
    led(web, alive_s_ago=90, connected=True)
    assert "silent" in problem(web)
    led(web, alive_s_ago=0, connected=True)
    assert web.get("/ready").json() == {"status": "ready"}


def test_without_ingest_feeds_are_still_served_and_new_viewers_told_to_wait(web):
    feed = "feed=" + web.reader.uri()
    assert web.skeleton(feed).error() == (503, "FeedNotReady")
    assert web.skeleton(f"{feed}&limit=1").json() == {"feed": []}


def test_a_database_that_is_broken_is_a_503_in_json(web):
    web.database.rows("ALTER TABLE viewers RENAME TO hidden")
    try:
        answer = web.skeleton("feed=" + web.reader.uri())
        assert answer.error() == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"].isdigit()
        assert b"viewers" not in answer.body
    finally:
        web.database.rows("ALTER TABLE hidden RENAME TO viewers")
    # A poll, since nobody here fetches what the first page of a new viewer would show.
    poll = f"feed={web.reader.uri()}&limit=1"
    wait_until(lambda: web.skeleton(poll).status == 200, 10, "it heals")
    text = web.service.log_path.read_text()
    assert "database failed" in text
    assert "Traceback" not in text


def test_json_logs_are_one_object_a_line(tmp_path):
    with Network(seed=18, pds=2) as net:
        database = SqliteFile(tmp_path / "feeds.db")
        site = make_site(net, database, tmp_path, LOG_FORMAT="json")
        try:
            site.service.start()
            site.get("/nothing")
            assert site.service.stop() == 0
        finally:
            site.service.end()
    lines = site.service.log_path.read_text().splitlines()
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys(), line
