"""Requests through real gunicorn, with a token each: ours on both databases, and plain Flask.

Two workers of 16 threads each, and the client, share the cores. Each request has a token of its own
and asks for the first page of one of the viewers of a made-up month (benchmarks/rig/
timeline_world.py), who are as people are. The contenders take turns; the median counts. Then each
is asked at half the rate that it reached, for its p99.

Goals with 30 items: 1,000 requests/s on SQLite and 500 on PostgreSQL on two cores, p99 under 50 ms
at half of that; beyond these, half the rate of plain Flask. With `--writes` the month goes on
meanwhile, in both databases and beside all contenders. What was reached is in docs/decisions.md.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.request import Request, urlopen

from benchmarks.rig import report
from benchmarks.rig.load import LEAD_IN_S, Answers, Load, run
from benchmarks.rig.stores import KINDS, store
from benchmarks.rig.timeline_layouts import connected, load
from benchmarks.rig.timeline_world import TimelineWorld, did_of
from benchmarks.rig.timeline_writer import BATCHES_A_SECOND, writing
from benchmarks.timeline import SETTINGS
from feeds import FEEDS
from server.core.config import UNPUBLISHED_DID
from simnet import key_from_seed
from simnet.keys import sign_jwt
from simnet.service_auth import service_claims
from tests.devnet.ports import free_port

METHOD = "app.bsky.feed.getFeedSkeleton"
WORKERS, THREADS = 2, 16
KEY = key_from_seed("benchmark", "k256")
READY_SECONDS = 30.0
# What no contender reaches with two workers.
MAX_A_SECOND = 6_000
# Requests for each viewer before anything is measured.
ASKED_BEFORE = 8
FLASK = "plain Flask"
_GIVE_KEY = "UPDATE authors SET signing_key = ?, checked_us = ? WHERE id = ?"
_NOTE_VIEWER = "INSERT INTO viewers (author_id, first_us, last_us) VALUES (?, 1, ?)"


def main() -> None:
    """Load, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=300_000, help="(default: %(default)s)")
    parser.add_argument("--viewers", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--limits", nargs="+", type=int, default=[30, 1], help="items of a page")
    parser.add_argument("--feed", default="following", choices=[feed.rkey for feed in FEEDS])
    parser.add_argument("--connections", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--writes", type=int, default=0, help="items written a second meanwhile, in tens"
    )
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    if options.writes % BATCHES_A_SECOND:
        parser.error(f"--writes must be a multiple of {BATCHES_A_SECOND}")
    world = TimelineWorld(options.items, options.viewers, sizes=())
    with ExitStack() as stack:
        urls = {}
        for kind in options.stores:
            settings = SETTINGS if kind == "postgresql" else {}
            urls[kind] = stack.enter_context(store(kind, **settings))()
            load("ours", urls[kind], world)
        _give_all_keys(urls, world)
        for url in urls.values():
            stack.enter_context(writing(url, world, options.writes))
        measure(urls, world, options)


def _give_all_keys(urls: dict[str, str], world: TimelineWorld) -> None:
    for url in urls.values():
        _give_keys(url, _mixed(world))


def _mixed(world: TimelineWorld) -> list[int]:
    return [viewer.number for viewer in world.viewers() if viewer.group == "mix"]


def measure(urls: dict[str, str], world: TimelineWorld, options: argparse.Namespace) -> None:
    """All contenders, on databases that are loaded."""
    viewers = _mixed(world)
    with ExitStack() as stack:
        ports = {FLASK: stack.enter_context(_plain_flask())}
        for kind, url in urls.items():
            ports[f"ours, {kind}"] = stack.enter_context(_ours(url))
        written = f", {options.writes} written a second" if options.writes else ""
        report.title(
            f"Requests with a token, {options.items:,} items, feed {options.feed}{written}"
        )
        rows = [row for limit in options.limits for row in _rows(ports, viewers, limit, options)]
    head = ("contender", "items", "requests/s", "of plain Flask", "p50/p99 ms at half of that")
    report.table(head, rows)


def _rows(
    ports: dict[str, int], viewers: list[int], limit: int, options: argparse.Namespace
) -> Iterator[tuple[object, ...]]:
    rates: dict[str, list[float]] = {name: [] for name in ports}
    for name in ports:
        _warm_up(name, ports, viewers, limit, options)
    for _ in range(options.rounds):
        for name in ports:
            rates[name].append(_ask(name, ports, viewers, limit, options).a_second)
    found = {name: report.median(rate) for name, rate in rates.items()}
    for name, rate in found.items():
        calm = _ask(name, ports, viewers, limit, options, pace=rate / 2)
        share = f"{rate / found[FLASK]:.0%}"
        yield name, limit, f"{rate:,.0f}", share, f"{calm.at(0.5):.1f} / {calm.at(0.99):.1f}"


def _warm_up(
    name: str, ports: dict[str, int], viewers: list[int], limit: int, options: argparse.Namespace
) -> None:
    """Until each worker has most likely met each viewer: that is once in ten minutes, in life."""
    asked = 0.0
    while asked < ASKED_BEFORE * len(viewers):
        asked += _ask(name, ports, viewers, limit, options, seconds=2.0).a_second * 2


def _ask(
    name: str,
    ports: dict[str, int],
    viewers: list[int],
    limit: int,
    options: argparse.Namespace,
    seconds: float | None = None,
    pace: float | None = None,
) -> Answers:
    port, seconds = ports[name], seconds or options.seconds
    if name == FLASK:
        requests = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    else:
        # So many that none is asked twice.
        count = (seconds + LEAD_IN_S) * (pace or MAX_A_SECOND) + options.connections
        requests = _requests(port, viewers, limit, options.feed, int(count))
    return run(Load(port, requests, options.connections, seconds, pace))


def _requests(port: int, viewers: list[int], limit: int, feed: str, count: int) -> list[bytes]:
    """Each with its own token, as the AppView's are."""
    rng, uri = random.Random(1), f"at://{UNPUBLISHED_DID}/app.bsky.feed.generator/{feed}"
    head = f"GET /xrpc/{METHOD}?feed={uri}&limit={limit} HTTP/1.1\r\nHost: localhost\r\n"
    found = []
    for _ in range(count):
        claims = service_claims(did_of(rng.choice(viewers)), KEY.alg, _did(port), METHOD)
        found.append(f"{head}Authorization: Bearer {sign_jwt(*claims, KEY)}\r\n\r\n".encode())
    return found


def _did(port: int) -> str:
    return f"did:web:localhost%3A{port}"


def _give_keys(url: str, viewers: list[int]) -> None:
    """Identities that are in the database, so that nobody has to be asked for them."""
    now_us = time.time_ns() // 1000
    mark = "?" if url.startswith("sqlite") else "%s"
    give, note = (sql.replace("?", mark) for sql in (_GIVE_KEY, _NOTE_VIEWER))
    with connected(url) as connection, closing(connection.cursor()) as cursor:
        cursor.executemany(
            give,
            [(KEY.multibase, now_us, number) for number in viewers],
        )
        # Nobody is new, or they would be waited for.
        cursor.execute("DELETE FROM viewers")
        cursor.executemany(
            note,
            [(number, now_us) for number in viewers],
        )


@contextmanager
def _ours(url: str) -> Iterator[int]:
    port = free_port()
    settings = {
        "DATABASE_URL": url,
        "PORT": str(port),
        "WEB_WORKERS": str(WORKERS),
        "WEB_THREADS": str(THREADS),
        "VIEWER_REQUESTS_PER_MINUTE": "1000000",
        "LOG_LEVEL": "WARNING",
    }
    names = ("FEED_HOSTNAME", "FEED_SERVICE_DID", "FEED_PUBLISHER_DID")
    environment = {key: text for key, text in os.environ.items() if key not in names} | settings
    command = [sys.executable, "-m", "server", "web"]
    with _running(command, environment, f"http://127.0.0.1:{port}/health"):
        _check(port, url)
        yield port


def _check(port: int, url: str) -> None:
    """See that a page is a page."""
    with connected(url) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("SELECT min(viewer_id) FROM follows")
        request = _requests(port, [cursor.fetchone()[0]], 30, "everything", 1)[0].decode()
    path, token = request.split()[1], request.split("Authorization: ")[1].strip()
    asked = Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": token})
    with urlopen(asked, timeout=10) as answer:  # noqa: S310
        assert len(json.load(answer)["feed"]) == 30


@contextmanager
def _plain_flask() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "-b", f"127.0.0.1:{port}"]
    command += ["-w", str(WORKERS), "--threads", str(THREADS), "--keep-alive", "75"]
    command += ["--log-level", "warning", "benchmarks.rig.plain_flask:app"]
    with _running(command, dict(os.environ), f"http://127.0.0.1:{port}/"):
        yield port


@contextmanager
def _running(command: list[str], environment: dict[str, str], url: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + READY_SECONDS
        while not _answers(url):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < until_s, "it is never ready"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
