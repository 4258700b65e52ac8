"""What we publish, against the lexicon of app.bsky.feed.generator."""

import struct
import unicodedata

import pytest
from atproto import models

from feeds import FEEDS
from publish_feed import AVATARS
from publishing.preflight import read_avatars
from server.core.feed import QUIET_ITEMS, TimelineFilter
from server.core.interactions import make_req_id
from server.core.syntax import is_rkey
from server.storage.retention import KEPT_ITEMS
from tests.builders import NOW_MS, did, iso


def graphemes(text):
    """An upper bound of the graphemes of a text: its characters but for the combining ones."""
    return sum(1 for letter in text if not unicodedata.combining(letter))


def test_record_keys_are_unique():
    assert len({feed.rkey for feed in FEEDS}) == len(FEEDS) > 0


def test_no_two_feeds_show_the_same():
    assert len({(feed.filter, feed.oldest_first) for feed in FEEDS}) == len(FEEDS)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_a_feed_keeps_within_the_lexicon(feed):
    assert is_rkey(feed.rkey)
    assert 0 < graphemes(feed.display_name) <= 24
    assert len(feed.display_name.encode()) <= 240
    assert graphemes(feed.description) <= 300
    assert len(feed.description.encode()) <= 3000
    assert feed.filter.replies in ("all", "following", "none")
    assert feed.filter.authors in ("followed", "mutual", "quiet")
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
    assert shown["no-reposts"] == TimelineFilter(reposts=False, replies="following")
    assert shown["no-quotes"] == TimelineFilter(quotes=False, replies="following")
    assert shown["media"] == TimelineFilter(media_only=True, replies="following")
    assert shown["mutuals"] == TimelineFilter(authors="mutual", replies="following")
    assert shown["quiet"] == TimelineFilter(authors="quiet", replies="following")
    assert shown["catch-up"] == TimelineFilter(replies="following")
    assert [feed.rkey for feed in FEEDS if feed.oldest_first] == ["catch-up"]


def test_the_mark_of_a_page_fits_the_lexicon_and_the_app_can_hand_it_back():
    for feed in FEEDS:
        mark = make_req_id(feed.rkey, 10**17)
        assert len(mark) <= 100
        # The official app joins what it hands back with this letter.
        assert "|" not in mark


def test_of_everybody_more_is_kept_than_a_quiet_author_may_have():
    assert KEPT_ITEMS > QUIET_ITEMS


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_a_feed_has_a_small_square_picture(feed):
    avatar = read_avatars([feed], AVATARS)[feed.rkey]
    assert avatar.mime_type == "image/png"
    assert len(avatar.data) < 10_000
    # A PNG's size stands behind its signature and the head of its first chunk.
    width, height = struct.unpack(">II", avatar.data[16:24])
    assert (width, height) == (512, 512)
