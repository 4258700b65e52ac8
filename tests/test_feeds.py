"""What we publish, against the lexicon of app.bsky.feed.generator."""

import unicodedata

import pytest
from atproto import models

from feeds import FEEDS
from server.core.feed import TimelineFilter
from server.core.syntax import is_rkey
from tests.builders import NOW_MS, did, iso


def graphemes(text):
    """An upper bound of the graphemes of a text: its characters but for the combining ones."""
    return sum(1 for letter in text if not unicodedata.combining(letter))


def test_record_keys_are_unique():
    assert len({feed.rkey for feed in FEEDS}) == len(FEEDS) > 0


def test_no_two_feeds_show_the_same():
    assert len({feed.filter for feed in FEEDS}) == len(FEEDS)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_a_feed_keeps_within_the_lexicon(feed):
    assert is_rkey(feed.rkey)
    assert 0 < graphemes(feed.display_name) <= 24
    assert len(feed.display_name.encode()) <= 240
    assert graphemes(feed.description) <= 300
    assert len(feed.description.encode()) <= 3000
    assert feed.filter.replies in ("all", "following", "none")
    record = {
        "$type": "app.bsky.feed.generator",
        "did": "did:web:feed.example.com",
        "displayName": feed.display_name,
        "description": feed.description,
        "createdAt": iso(NOW_MS),
    }
    models.AppBskyFeedGenerator.Record.model_validate(record, strict=True)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_a_feed_has_its_own_address(feed):
    assert feed.uri(did("me")) == f"at://{did('me')}/app.bsky.feed.generator/{feed.rkey}"


def test_the_addresses_that_people_have_pinned_stay_what_they_are():
    shown = {feed.rkey: feed.filter for feed in FEEDS}
    assert shown["following"] == TimelineFilter(reposts=True, replies="following")
    assert shown["everything"] == TimelineFilter(reposts=True, replies="all")
    assert shown["posts-only"] == TimelineFilter(reposts=False, replies="none")
