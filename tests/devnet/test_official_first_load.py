"""Somebody opens a feed of which nothing is there yet: what the official servers make of that."""

from __future__ import annotations

import pytest

from server.web.first_load import NOT_READY
from tests.devnet.client import Network, XrpcFailed
from tests.devnet.reading import feed_page, texts, wait_for
from tests.devnet.service import Service

pytestmark = pytest.mark.devnet


@pytest.mark.parametrize("rkey", ["following", "mutuals"])
def test_the_app_is_told_that_a_feed_is_not_ready_in_our_words(
    network: Network, shared_service: Service, rkey: str
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    ann.follow(me)
    ann.post("by ann")
    network.settle()
    with shared_service.nothing_is_fetched():
        with pytest.raises(XrpcFailed) as failed:
            feed_page(me, shared_service, rkey)
        # The message is all of it that the app shows.
        assert str(failed.value) == f"503 FeedNotReady: {NOT_READY}"
        assert texts(feed_page(me, shared_service, rkey, limit=1).items) == []
    wait_for(lambda: texts(feed_page(me, shared_service, rkey).items), ["by ann"], shared_service)


def test_who_follows_nobody_is_told_nothing(network: Network, shared_service: Service) -> None:
    me = network.account("me")
    network.settle()
    wait_for(lambda: texts(feed_page(me, shared_service, "following").items), [], shared_service)
