"""What was seen, on its way from the app through the official PDS to where the feed goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.devnet.client import Account, Network, creation, post_record, timestamp
from tests.devnet.reading import feed_page, texts, wait_for, whole_feed
from tests.devnet.service import Service

pytestmark = pytest.mark.devnet

CATCH_UP, POSTS = "catch-up", 8


def test_the_feed_goes_on_where_the_viewer_stopped(
    network: Network, shared_service: Service
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    dates = [timestamp(-3600.0 * (POSTS - number)) for number in range(POSTS)]
    records = [post_record(f"post {n}", created_at=date) for n, date in enumerate(dates)]
    ann.apply([creation(record) for record in records])
    network.settle()

    wait_for(lambda: len(whole_feed(me, shared_service, CATCH_UP)), POSTS, shared_service)
    page = feed_page(me, shared_service, CATCH_UP, limit=5)
    assert texts(page.items) == [f"post {number}" for number in range(5)]

    assert report(me, shared_service, [item.view for item in page.items[:3]]) == {}
    page = feed_page(me, shared_service, CATCH_UP, limit=5)
    assert texts(page.items) == [f"post {number}" for number in range(2, 7)]
    assert texts(feed_page(me, shared_service, CATCH_UP, limit=1).items) == ["post 3"]

    last = whole_feed(me, shared_service, CATCH_UP)[-1:]
    report(me, shared_service, [item.view for item in last], feed=shared_service.feed_uri(CATCH_UP))
    assert texts(feed_page(me, shared_service, CATCH_UP, limit=1).items) == []
    assert texts(feed_page(me, shared_service, CATCH_UP).items) == [f"post {POSTS - 1}"]
    ann.post("new")
    wait_for(
        lambda: texts(feed_page(me, shared_service, CATCH_UP, limit=1).items),
        ["new"],
        shared_service,
    )


def report(me: Account, service: Service, views: list[dict[str, Any]], **more: str) -> Any:
    """What the app makes of the views that it showed."""
    seen = [
        {
            "item": view["post"]["uri"],
            "event": "app.bsky.feed.defs#interactionSeen",
            "feedContext": view["feedContext"],
            "reqId": view["reqId"],
        }
        for view in views
    ]
    return me.network.procedure(
        "app.bsky.feed.sendInteractions",
        {"interactions": seen, **more},
        me.token,
        proxy=f"{service.did}#bsky_fg",
    )
