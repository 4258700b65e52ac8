"""How long somebody waits who opens a feed for the first time, with many follows on slow PDSes.

Our service as it is run, on both databases in turns, each time a new one, against simnet in a
process of its own. Every answer of a PDS is held back by --delay-ms, of the directory by
--directory-ms. Printed for each run: when the first request was answered and how much of the first
page was in it, when the first page was the true one, when the whole history was there (CPU is the
service's, without PostgreSQL's own); and the baseline, which is what waiting alone would take if
each author were fetched one after another.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.rig.stores import KINDS, store
from server.core.errors import FeedNotReady
from simnet import FeedFailed, Network, Write
from simnet.clock import iso
from simnet.expected import expected_everything
from simnet.service_process import ServiceProcess
from simnet.tid import tid_at

POST = "app.bsky.feed.post"
# What an app asks for first.
PAGE_ITEMS = 30
# Requests for each author: the directory, the rev, a page of posts, one of reposts.
PDS_REQUESTS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds since the first request; `shown` items were in its answer."""

    answered_s: float
    shown: int
    page_s: float
    whole_s: float
    cpu_s: float


def main() -> None:
    """Run, and print what was measured."""
    options = _parser().parse_args()
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in options.stores}
    with contextlib.ExitStack() as stores:
        makers = {kind: stores.enter_context(store(kind)) for kind in options.stores}
        for seed in range(1, options.runs + 1):
            for kind, make_url in makers.items():
                outcome = _run(options, seed, make_url())
                outcomes[kind].append(outcome)
                print(
                    f"{kind}: first answer {outcome.answered_s:.2f} s with {outcome.shown} of"
                    f" {PAGE_ITEMS} items, true first page {outcome.page_s:.2f} s,"
                    f" all {outcome.whole_s:.1f} s, service CPU {outcome.cpu_s:.1f} s",
                    flush=True,
                )
    serial_s = options.follows * (
        PDS_REQUESTS * options.delay_ms / 1000 + options.directory_ms / 1000
    )
    for kind, measured in outcomes.items():
        page_s = statistics.median(outcome.page_s for outcome in measured)
        print(
            f"{kind}, median: true first page of {options.follows} follows on {options.hosts} hosts"
            f" in {page_s:.2f} s; one after another: {serial_s:.0f} s"
            f" ({serial_s / page_s:.0f} times that)"
        )


def _run(options: argparse.Namespace, seed: int, url: str) -> Outcome:
    ours, theirs = multiprocessing.Pipe()
    network = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, options, seed)
    )
    network.start()
    try:
        with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder:
            service = ServiceProcess(Path(folder), {**ours.recv(), "DATABASE_URL": url})
            service.start(threading.Event())
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            ours.send((service.did, service.url))
            try:
                measured: tuple[float, int, float, float] = ours.recv()
            finally:
                service.stop()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        ours.close()
        network.join(10)
        network.kill()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(*measured, cpu_s)


def _serve(pipe: Connection, options: argparse.Namespace, seed: int) -> None:
    """The network, and the app that looks at it: in another process than the service."""
    with Network(seed=seed, pds=options.hosts) as net:
        publisher, viewer = net.create_account("publisher"), net.create_account("viewer")
        for number in range(options.follows):
            account = net.create_account(f"a{number}", pds=number % options.hosts, emit=False)
            account.apply(_history(net.clock(), number, options.posts), emit=False)
            viewer.follow(account, emit=False)
        net.faults.arm(
            "http-slow", times=None, where={"host": "plc"}, delay_s=options.directory_ms / 1000
        )
        for host in range(options.hosts):
            net.faults.arm(
                "http-slow",
                times=None,
                where={"host": f"pds{host}"},
                delay_s=options.delay_ms / 1000,
            )
        wanted = expected_everything(net.world, viewer.did)
        pipe.send(net.environment(publisher))
        did, url = pipe.recv()
        net.register_feed_service(did, url)
        feed = net.publish_feed(publisher, "everything", did).uri
        pipe.send(_watch(net, viewer, feed, wanted))


def _history(now_us: int, number: int, posts: int) -> list[Write]:
    """Posts of this week, at times that no other author's have."""
    times = [now_us - (number * 61 + post * 7_200) * 1_000_000 - number for post in range(posts)]
    return [
        Write("create", POST, tid_at(at_us, number), {"text": "x" * 150, "createdAt": iso(at_us)})
        for at_us in times
    ]


def _watch(
    net: Network, viewer: Any, feed: str, wanted: list[str]
) -> tuple[float, int, float, float]:
    began = time.monotonic()

    def shown() -> list[str]:
        try:
            return [item.uri for item in net.get_feed(viewer, feed, PAGE_ITEMS).items]
        except FeedFailed as failed:
            if failed.error != FeedNotReady.name:
                raise
            return []

    first = shown()
    answered_s = time.monotonic() - began
    while shown() != wanted[:PAGE_ITEMS]:
        time.sleep(0.1)
    page_s = time.monotonic() - began
    while len(_whole(net, viewer, feed)) < len(wanted):
        time.sleep(0.5)
    return answered_s, len(first), page_s, time.monotonic() - began


def _whole(net: Network, viewer: Any, feed: str) -> list[str]:
    uris: list[str] = []
    cursor: str | None = None
    while True:
        page = net.get_feed(viewer, feed, 100, cursor)
        uris += [item.uri for item in page.items]
        cursor = page.cursor
        if cursor is None:
            return uris


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_load", description=__doc__)
    parser.add_argument("--follows", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=25)
    parser.add_argument("--posts", type=int, default=40)
    parser.add_argument("--delay-ms", type=int, default=150)
    parser.add_argument("--directory-ms", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    return parser


if __name__ == "__main__":
    main()
