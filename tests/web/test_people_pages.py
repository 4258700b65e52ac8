"""The pages for people, without a browser: what they show, what they keep to themselves."""

import dataclasses
import json
import re
import time

import pytest
from prometheus_client import generate_latest

from feeds import FEEDS
from server.app import create_app
from server.core.config import load_config
from server.core.metrics import IngestMetrics, WebMetrics
from server.storage import exported_metrics, gaps, history, jobs, leases, repos, viewers
from server.storage.database import DatabaseError, current, execute, write_transaction
from server.storage.ledger import Completeness, Window
from server.storage.many_rows import insert_rows
from server.web import pages
from server.web.standing import about, look, share
from tests.builders import Stream, did, follow, job_of, make_live, post, tid, track

SECRET = "the words of another's server"  # noqa: S105
HOLDER = "machine-7:4711"
STATIC = ("/static/refresh.js", "/static/gapless.css", "/static/icon.svg")


@pytest.fixture
def now_us():
    return time.time_ns() // 1000


@pytest.fixture
def stream(db, lease, now_us):
    """A service that is being read, with one viewer who follows Ann, complete, and Bob."""
    stream = Stream(lease.epoch)
    viewers.welcome(did("viv"), now_us)
    stream.say("viv", follow(tid(1), "ann"), follow(tid(2), "bob"))
    stream.say("ann", post(tid(1)))
    make_live("viv", "ann", epoch=lease.epoch)
    jobs.fail(job_of("bob", lease.epoch), SECRET, now_us)
    alive(stream, lease)
    return stream


def alive(stream, lease):
    """The stream is read, and an event was saved just now."""
    now_us = time.time_ns() // 1000
    stream.seq += 1
    execute("DELETE FROM stream_cursors")
    execute(
        "INSERT INTO stream_cursors (host, seq, event_ms, written_us) VALUES (?, ?, ?, ?)",
        (stream.host, stream.seq, now_us // 1000, now_us),
    )
    leases.report(lease.epoch, now_us, now_us - 5_000_000)


@pytest.fixture
def client(db):
    return create_app(load_config({})).test_client()


@pytest.fixture
def page_of(sqlite):
    """For what has nothing to do with the database."""
    client = create_app(load_config({})).test_client()
    return lambda path, **query: client.get(path, query_string=query or None, buffered=True)


def seen(now_us):
    return look("1", Window.at(now_us, 7, 30), WebMetrics(), None, now_us)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, 0), (9, 0), (10, 10), (19, 10), (99, 90), (1234, 1200), (99_999, 99_000)],
)
def test_counts_are_told_to_two_digits_and_not_below_ten(count, told):
    assert about(count) == told


def test_one_viewer_more_changes_no_number(stream, now_us, lease):
    before = seen(now_us)
    viewers.welcome(did("new"), now_us)
    stream.say("new", follow(tid(1), "somebody nobody followed"))
    alive(stream, lease)
    after = seen(now_us)
    # These move with everything that happens.
    moving = {"until_us": 0, "sources": [], "about_database_bytes": 0}
    assert dataclasses.replace(after, **moving) == dataclasses.replace(before, **moving)
    numbers = [f"n{number}" for number in range(12)]
    track(*numbers)
    assert seen(now_us).about_authors == 10
    assert seen(now_us).about_incomplete == {"pending": 10}


@pytest.mark.parametrize(
    ("pending", "away", "told"),
    [(0, 40, 1), (9, 0, 1), (12, 0, 0.99), (2000, 500, 0), (25, 0, 0.99)],
)
def test_not_all_are_complete_where_somebody_is_not(pending, away, told):
    counts = {"pending": pending, "inactive": away}
    found = Completeness(2500, 2500 - pending - away, None, None, counts, [])
    assert share(found) == told


def test_nobody_is_named_and_no_strangers_words_are_shown(stream, client):
    execute("UPDATE leases SET holder = ?", (HOLDER,))
    stream.say("ann", post(tid(5)), hole="sync")
    for path in ("/", "/status", "/status.json"):
        text = client.get(path).get_data(as_text=True)
        assert not any(did(name) in text for name in ("viv", "ann", "bob"))
        assert SECRET not in text
        assert HOLDER not in text
    json_ = client.get("/status.json").get_json()
    # That there is one is not even told: somebody could have caused it to see whether it shows.
    assert json_["gaps_of_everybody"] == []
    assert json_["about_gaps_of_authors"] == 0


def test_the_page_and_the_json_show_the_same(stream, client, now_us):
    ingest = IngestMetrics()
    ingest.breaks.labels(stream.host, "cut").inc(2)
    ingest.breaks.labels(stream.host, "dns").inc()
    ingest.connected.labels(stream.host).set(1)
    ingest.hedged_events.labels(stream.host, "late").inc(1970)
    ingest.hedged_events.labels(stream.host, "missing").inc(30)
    ingest.source_changes.inc(2)
    exported_metrics.save(generate_latest(ingest.registry).decode(), 1, now_us)
    with write_transaction():
        gaps.open_for_all(stream.host, "cursor outdated", 1_790_000_000_000, 1_790_000_060_000, 0)
    history.note(100, now_us - 15_000_000)
    history.note(1600, now_us)
    page = client.get("/status").get_data(as_text=True)
    said = client.get("/status.json").get_json()
    assert said["problem"] is None
    assert said["lag_s"] < 60
    assert said["events_each_s"] == 100.0
    assert '<p class="big">100</p>' in page
    (source,) = said["sources"]
    assert (source["host"], source["is_read"]) == (stream.host, True)
    assert (source["breaks"], source["share_lost"]) == (3, 0.015)
    now = "read, .* behind; loses 1.5% of events, which the sources beside it bring"
    assert re.search(rf"<td>{stream.host}</td>\s*<td>{now}</td>\s*<td>3</td>", page)
    assert said["source_changes"] == 2
    assert "taken instead: 2 times" in page
    (gap,) = said["gaps_of_everybody"]
    assert (gap["reason"], gap["from_ms"]) == ("cursor outdated", 1_790_000_000_000)
    assert "from 2026-09-21 14:13:20 UTC to 2026-09-21 14:14:20 UTC" in page
    assert len(said["history"]) == 2
    assert page.count("<svg") == 3
    assert "lowest 100, highest 100, last 100" in page


def test_a_stream_that_nobody_reads_is_said_in_words(stream, client, lease):
    assert "Feeds are up to date" in client.get("/").get_data(as_text=True)
    leases.report(lease.epoch, time.time_ns() // 1000 - 60_000_000, None)
    late = create_app(load_config({})).test_client()
    for path in ("/", "/status", "/check"):
        assert "Feeds are standing still" in late.get(path).get_data(as_text=True)
    assert late.get("/status.json").get_json()["problem"] == "nobody reads the stream"


def test_a_service_that_has_just_begun_has_a_page(client):
    assert client.get("/status").status_code == 200
    said = client.get("/status.json").get_json()
    assert (said["lag_s"], said["sources"], said["history"]) == (None, [], [])


def test_pages_say_what_is_wrong_when_the_database_does_not_answer(client, monkeypatch):
    def fail(*_):
        raise DatabaseError("gone")

    monkeypatch.setattr(current(), "execute_sql", fail)
    home = client.get("/")
    assert home.status_code == 200
    assert "We cannot tell right now" in home.get_data(as_text=True)
    assert FEEDS[0].display_name in home.get_data(as_text=True)
    page = client.get("/status")
    assert (page.status_code, page.mimetype) == (503, "text/html")
    assert page.headers["Cache-Control"] == "no-store"
    assert client.get("/status.json").status_code == 503


def test_pages_let_a_browser_load_our_own_files_and_nothing_else(page_of):
    for path in ("/", "/status", "/check", "/check?account=x", *STATIC):
        answer = page_of(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_pages_have_no_script_or_style_of_their_own_and_nothing_from_elsewhere(page_of):
    for path in ("/", "/status", "/check", "/check?account=x"):
        text = page_of(path).get_data(as_text=True)
        assert not re.search(r"<script(?! src=\"/static/)|<style| style=| on\w+=", text)
        assert all(src.startswith("/") for src in re.findall(r" src=\"([^\"]*)", text))
        outside = [url for url in re.findall(r"https?://[^\"<]*", text) if "bsky.app/" not in url]
        assert outside == []
    for path in STATIC:
        assert b"http" not in page_of(path).data.replace(b'xmlns="http://www.w3.org/2000/svg"', b"")


def test_what_somebody_types_is_shown_as_text(page_of):
    answer = page_of("/check", account='"><script>alert(1)</script>')
    text = answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert "<script>" not in text
    assert "That is no handle." in text
    assert 'aria-invalid="true"' in text


def test_what_is_no_handle_asks_nobody(page_of):
    for text in ("x", "did:plc:short", "ann@bsky", "a" * 300, "🦋.test", "1.2.3.4", "a.b/c", "\0"):
        assert page_of("/check", account=text).status_code == 400, text


def test_a_picture_that_a_feed_gets_is_shown(page_of, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "AVATARS", tmp_path)
    assert "<img" not in page_of("/").get_data(as_text=True)
    (tmp_path / f"{FEEDS[0].rkey}.png").write_bytes(b"\x89PNG")
    (tmp_path / f"{FEEDS[1].rkey}.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "secret.png").write_bytes(b"not of a feed")
    assert page_of("/").get_data(as_text=True).count("<img") == 2
    first, second = (page_of(f"/avatar/{feed.rkey}") for feed in FEEDS[:2])
    assert (first.mimetype, first.data) == ("image/png", b"\x89PNG")
    assert second.mimetype == "image/jpeg"
    assert page_of("/avatar/secret").status_code == 404


def test_each_feed_has_its_picture_if_there_is_one(page_of):
    page = page_of("/").get_data(as_text=True)
    for feed in FEEDS:
        assert f"/feed/{feed.rkey}" in page
        answer = page_of(f"/avatar/{feed.rkey}")
        shown = f'src="/avatar/{feed.rkey}"' in page
        assert (answer.status_code == 200) is shown
        assert not shown or answer.mimetype in ("image/png", "image/jpeg")
    for rkey in ("nothing", "..%2f..%2fREADME.md", "following.png"):
        assert page_of(f"/avatar/{rkey}").status_code == 404


def test_however_often_a_page_is_asked_for_the_database_is_read_once(stream, client, monkeypatch):
    client.get("/status")
    asked = []
    monkeypatch.setattr(current(), "execute_sql", lambda *args: asked.append(args))
    for path in ("/", "/status", "/status.json", "/check"):
        assert client.get(path).status_code == 200
    assert asked == []


def test_a_large_database_is_looked_at_in_a_moment(db, lease, now_us):
    numbers = range(1, 20_001)
    insert_rows(
        "INSERT INTO repos (author_id, state, wants, epoch, tracked_version, horizon_rkey)",
        [(number, repos.LIVE, repos.ITEMS, 1, number, 0) for number in numbers],
    )
    began = time.monotonic()
    assert seen(now_us).about_authors == 20_000
    # A tenth of this on an idle machine.
    assert time.monotonic() - began < 0.5


def test_the_json_is_json_for_everybody(stream, client):
    answer = client.get("/status.json")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert json.loads(answer.get_data())["version"]
