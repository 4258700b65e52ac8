"""Somebody opens a feed for the first time: how long they wait, and what they are told meanwhile.

How long is measured, and bounded generously.
"""

import time

import pytest

from simnet import FeedFailed, Network, Write
from simnet.clock import iso
from simnet.expected import expected_everything
from simnet.tid import tid_at
from tests.system.databases import KINDS
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


def first_page(net, viewer, uri):
    """Keys of the items that are shown; None while the feed is not ready."""
    try:
        page = net.get_feed(viewer, uri, PAGE_ITEMS)
    except FeedFailed as failed:
        if failed.error != "FeedNotReady":
            raise
        return None
    return [item.repost_uri or item.uri for item in page.items]


def test_nobody_is_told_to_wait_for_hosts_that_are_gone(place):
    ann = place.net.create_account("ann", pds=1)
    post = ann.post("by ann")
    place.net.faults.arm("http-drop", times=None, where={"host": "pds1"})
    viewer = place.viewer("viewer", ann)

    def shown():
        return first_page(place.net, viewer, place.reader.uri())

    wait_until(lambda: shown() == [], 10, place.service.log_text)
    assert place.net.faults.fired["http-drop"]
    place.net.faults.disarm("http-drop")
    wait_until(lambda: shown() == [post.uri], 20, place.service.log_text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_page_of_many_follows_on_slow_hosts_comes_soon(
    tmp_path, make_database, make_service, report, kind
):
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
        database = make_database(kind, tmp_path)
        environ = {"FEED_PUBLISHER_DID": publisher.did, "BACKFILL_WORKERS": "32"}
        service = make_service(net, database, environ=environ)
        reader = Reader(net, service, publisher)
        service.start()
        times = sort_times_ms(net)
        wanted = expected_everything(net.world, viewer.did)

        def shown():
            return first_page(net, viewer, reader.uri()) or []

        began = time.monotonic()
        first = shown()
        answered_s = time.monotonic() - began
        assert answered_s < APPVIEW_SECONDS
        wait_until(
            lambda: (
                in_comparable_order(shown(), times)
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
        f"first load, {kind}, {FOLLOWS} follows on {HOSTS} hosts of {DELAY_SECONDS * 1000:.0f} ms:"
        f" first answer {answered_s:.1f} s with {len(first)} of {PAGE_ITEMS} items, true first page"
        f" {page_s:.1f} s, all {len(wanted)} items {whole_s:.1f} s"
    )
