"""Readers while the service catches up: how long getFeedSkeleton takes, idle and at full speed.

The service as it is run (web and ingest, two processes), on SQLite or PostgreSQL. A viewer with
300 follows asks for one page after another; then the relay pours out an outage's worth of frames,
as fast as they are taken, while the viewer goes on asking; and then again in peace. Idle is what
came before and after, half each: what is poured out changes the page, and what a page is looked for
in. Goal: the p99 while catching up is at most twice the idle one. On a machine with two cores the
feeder takes a part of them, so what the web process loses there is in the numbers too.

What is poured out is an outage scaled down: at 500 events a second, 72 hours are 130 million
frames. Printed is how long they would take at the pace that was seen.
"""

import argparse
import http.client
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks.rig import corpus, ours, report
from benchmarks.rig.feeder import Feed, Plan, feeding
from benchmarks.rig.stores import KINDS, store
from server.core.projection import sort_key
from server.storage import repos
from server.storage.authors import author_ids
from server.storage.cursors import load_cursor
from server.storage.database import close_database, execute, write_transaction
from server.storage.many_rows import insert_rows
from server.storage.migrate import migrate
from server.storage.newest import renew_newest
from server.storage.opening import open_database
from simnet import Account, Network
from tests.system.service import Service

FOLLOWS, ITEMS_EACH = 300, 60
OUTAGE_FRAMES = 72 * 3600 * 500
# Tokens hold for a minute.
TOKENS = 2_000
LXM = "app.bsky.feed.getFeedSkeleton"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--percent", type=int, default=100, help="tracked (default: %(default)s)")
    parser.add_argument("--idle-seconds", type=float, default=8.0, help="before, and after")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    report.title(f"Readers while {options.frames:,} frames are caught up with")
    rows = []
    for kind in options.stores:
        with store(kind) as make_url, feeding(Plan(options.frames)) as feed, Network(seed=5) as net:
            rows.append((kind, *_measure(options, make_url(), feed, net)))
    report.table(
        ("store", "idle p50", "p99", "catching up p50", "p99", "ratio", "frames/s", "72 h in"), rows
    )


def _measure(options: argparse.Namespace, url: str, feed: Feed, net: Network) -> tuple[object, ...]:
    made = corpus.load(options.frames, with_frames=False)
    viewer, publisher = net.create_account("viewer"), net.create_account("publisher")
    open_database(url)
    migrate()
    host = urlsplit(feed.url).netloc
    ours.prepare(host, made.tracked(options.percent), made.first_seq, made.start_ms)
    _follow(viewer.did, list(made.tracked(options.percent))[:FOLLOWS], made.start_ms)
    with tempfile.TemporaryDirectory() as folder:
        settings = {**net.environment(publisher), "DATABASE_URL": url, "STREAM_URLS": feed.url}
        service = Service(settings, Path(folder))
        try:
            service.start()
            app = _App(net, service, viewer, publisher)
            app.ask_until(lambda began: time.monotonic() - began > 2)
            idle = app.ask_until(lambda began: time.monotonic() - began > options.idle_seconds)
            feed.go()
            began = time.monotonic()
            busy = app.ask_until(lambda _: _has_read(host, made.last_seq))
            took_s = time.monotonic() - began
            idle += app.ask_until(lambda began: time.monotonic() - began > options.idle_seconds)
        finally:
            service.end()
            close_database()
    return _told(idle, busy, options.frames / took_s)


def _told(idle: list[float], busy: list[float], per_s: float) -> tuple[object, ...]:
    spans = [(_percentile(times, 50), _percentile(times, 99)) for times in (idle, busy)]
    texts = [f"{ms * 1000:.1f} ms" for span in spans for ms in span]
    ratio = spans[1][1] / spans[0][1]
    return (*texts, f"{ratio:.1f}", f"{per_s:,.0f}", f"{OUTAGE_FRAMES / per_s / 3600:.1f} h")


def _follow(viewer: str, dids: list[str], start_ms: int) -> None:
    """Somebody whose feed is complete: follows and items are there, nothing is to be fetched."""
    numbers = author_ids([viewer, *dids])
    own = numbers[viewer]
    items = [
        (sort_key(ms, 0), numbers[did], ms * 1000 << 10, 0)
        for place, did in enumerate(dids)
        for ms in range(start_ms - place, start_ms - place - 60_000 * ITEMS_EACH, -60_000)
    ]
    with write_transaction():
        execute("UPDATE counters SET value = 1000000 WHERE name = 'tracked'")
        insert_rows("INSERT INTO viewers (author_id, first_us, last_us)", [(own, 1, 1)])
        insert_rows(
            "INSERT INTO repos (author_id, state, wants, epoch, tracked_version, horizon_rkey)",
            [(own, repos.LIVE, repos.ITEMS | repos.FOLLOWS, 1, 1_000_000, 0)],
        )
        insert_rows(
            "INSERT INTO follows (viewer_id, rkey, subject_id)",
            [(own, place, numbers[did]) for place, did in enumerate(dids)],
        )
        insert_rows("INSERT INTO feed_items (id, author_id, rkey, flags)", items)
        renew_newest(numbers.values())


class _App:
    """The viewer's app, asking for the newest page again and again over one connection.

    In a process of its own: the network that is made up here answers our backfill meanwhile, and
    would delay it.
    """

    def __init__(self, net: Network, service: Service, viewer: Account, publisher: Account) -> None:
        feed = quote(f"at://{publisher.did}/app.bsky.feed.generator/following")
        self.tokens = [net.service_token(viewer, service.did, LXM) for _ in range(TOKENS)]
        self.address = (service.port, f"/xrpc/{LXM}?feed={feed}&limit=30")

    def ask_until(self, is_over: Callable[[float], bool]) -> list[float]:
        """Seconds of each answer."""
        context, began = multiprocessing.get_context("spawn"), time.monotonic()
        here, there = context.Pipe()
        process = context.Process(target=_ask, args=(there, *self.address, self.tokens))
        process.start()
        # Where it fails there is nothing to receive, and nobody to wait for.
        there.close()
        while process.is_alive() and not is_over(began):
            time.sleep(0.02)
        here.send("enough")
        took: list[float] = here.recv()
        process.join()
        return took


def _ask(pipe: Connection, port: int, path: str, tokens: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took: list[float] = []
    while not pipe.poll():
        token = tokens[len(took) % len(tokens)]
        asked = time.monotonic()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append(time.monotonic() - asked)
        assert answer.status == 200, body
        assert body.count(b'"post"') == 30, body
        # An app rests between two pages.
        time.sleep(0.005)
    pipe.send(took)


def _has_read(host: str, seq: int) -> bool:
    cursor = load_cursor(host)
    return cursor is not None and cursor.seq >= seq


def _percentile(times: list[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


if __name__ == "__main__":
    main()
