"""How long somebody waits who opens a feed for the first time. Measured, and bounded generously."""

import time

import pytest

from simnet import Network, Write
from simnet.clock import iso
from simnet.expected import expected_everything
from simnet.tid import tid_at
from tests.system.databases import SqliteFile
from tests.system.truth import Reader, in_comparable_order, sort_times_ms
from tests.system.waiting import wait_until

POST = "app.bsky.feed.post"
FOLLOWS, HOSTS, DELAY_SECONDS = 200, 4, 0.15
# What an app asks for first.
PAGE_ITEMS = 30
APPVIEW_SECONDS = 5.0


def write_history(account, number, now_us):
    """A few posts of this week; of every tenth account more than a page of them."""
    count = 130 if number % 10 == 0 else 6
    times = [now_us - (number * 61 + post * 3_600) * 1_000_000 for post in range(count)]
    writes = [
        Write("create", POST, tid_at(at_us, number), {"text": "x", "createdAt": iso(at_us)})
        for at_us in times
    ]
    account.apply(writes, emit=False)


@pytest.mark.slow
def test_the_first_page_of_many_follows_on_slow_hosts_comes_soon(tmp_path, make_service, report):
    with Network(seed=3, pds=HOSTS) as net:
        publisher = net.create_account("publisher")
        viewer = net.create_account("viewer")
        now_us = net.clock()
        for number in range(FOLLOWS):
            account = net.create_account(f"a{number}", pds=number % HOSTS, emit=False)
            write_history(account, number, now_us)
            viewer.follow(account, emit=False)
        for host in range(HOSTS):
            net.faults.arm(
                "http-slow", times=None, where={"host": f"pds{host}"}, delay_s=DELAY_SECONDS
            )
        database = SqliteFile(tmp_path / "feeds.db")
        environ = {"FEED_PUBLISHER_DID": publisher.did, "BACKFILL_WORKERS": "32"}
        service = make_service(net, database, environ=environ)
        reader = Reader(net, service, publisher)
        service.start()
        times = sort_times_ms(net)
        wanted = expected_everything(net.world, viewer.did)

        def first_page():
            page = net.get_feed(viewer, reader.uri(), PAGE_ITEMS)
            return [item.repost_uri or item.uri for item in page.items]

        began = time.monotonic()
        first = first_page()
        answered_s = time.monotonic() - began
        assert answered_s < APPVIEW_SECONDS
        wait_until(
            lambda: (
                in_comparable_order(first_page(), times)
                == in_comparable_order(wanted[:PAGE_ITEMS], times)
            ),
            30,
            service.log_text,
        )
        page_s = time.monotonic() - began
        reader.settle(viewer, seconds=60, database=database)
        whole_s = time.monotonic() - began
        assert net.faults.fired["http-slow"] >= 3 * FOLLOWS
        assert service.stop() == 0
    report(
        f"first load, {FOLLOWS} follows on {HOSTS} hosts of {DELAY_SECONDS * 1000:.0f} ms: first"
        f" answer {answered_s:.1f} s with {len(first)} of {PAGE_ITEMS} items, true first page"
        f" {page_s:.1f} s, all {len(wanted)} items {whole_s:.1f} s"
    )
