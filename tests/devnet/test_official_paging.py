"""Pages of our feeds join without loss or doubles, while new posts arrive."""

from __future__ import annotations

import pytest

from tests.devnet.client import Account, Network, creation, post_record, timestamp
from tests.devnet.reading import feed_page, texts, wait_for, whole_feed
from tests.devnet.service import Service

pytestmark = pytest.mark.devnet

LIMITS = (1, 2, 7, 30, 100)
ITEMS = 60


def crowd_with_history(network: Network) -> tuple[Account, list[Account]]:
    """A viewer and three followees with ITEMS posts, many of them in the very same millisecond."""
    me = network.account("me")
    authors = [network.account(f"author{number}") for number in range(3)]
    moments = [timestamp(-60 - number) for number in range(4)]
    for place, author in enumerate(authors):
        me.follow(author)
        records = [
            post_record(f"{place}.{number}", created_at=moments[number % 4])
            for number in range(ITEMS // 3)
        ]
        author.apply([creation(record) for record in records])
    network.settle()
    return me, authors


def test_pages_of_any_size_join_to_the_same_feed(network: Network, shared_service: Service) -> None:
    me, _ = crowd_with_history(network)
    wait_for(lambda: len(whole_feed(me, shared_service, "everything")), ITEMS, shared_service)
    whole = whole_feed(me, shared_service, "everything")
    assert len({item.key for item in whole}) == ITEMS
    for limit in LIMITS:
        assert whole_feed(me, shared_service, "everything", limit) == whole, f"limit {limit}"


@pytest.mark.parametrize("limit", LIMITS)
def test_posts_that_arrive_while_somebody_pages_shift_nothing(
    network: Network, shared_service: Service, limit: int
) -> None:
    me, authors = crowd_with_history(network)
    wait_for(lambda: len(whole_feed(me, shared_service, "everything")), ITEMS, shared_service)
    before = whole_feed(me, shared_service, "everything")
    read, cursor, arrived = [], None, 0
    while True:
        page = feed_page(me, shared_service, "everything", limit, cursor)
        assert 0 < len(page.items) <= limit
        read += page.items
        cursor = page.cursor
        if cursor is None:
            break
        if arrived < 10:
            authors[arrived % 3].post(f"new {arrived}")
            arrived += 1
            newest = [f"new {arrived - 1}"]
            network.settle()
            wait_for(
                lambda newest=newest: texts(feed_page(me, shared_service, "everything", 1).items),
                newest,
                shared_service,
            )
    assert read == before
    assert arrived == min(10, -(-ITEMS // limit) - 1)
    assert len(whole_feed(me, shared_service, "everything")) == ITEMS + arrived


def test_every_page_but_the_last_is_full(network: Network, shared_service: Service) -> None:
    me, _ = crowd_with_history(network)
    wait_for(lambda: len(whole_feed(me, shared_service, "everything")), ITEMS, shared_service)
    for limit in LIMITS:
        sizes, cursor = [], None
        while True:
            page = feed_page(me, shared_service, "everything", limit, cursor)
            sizes.append(len(page.items))
            cursor = page.cursor
            if cursor is None:
                break
        assert sizes[:-1] == [limit] * (len(sizes) - 1)
        assert sum(sizes) == ITEMS
