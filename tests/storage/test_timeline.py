"""Pages of a feed against the model in tests/expected.py, while the world goes on changing."""

import random

import pytest

from feeds import FEEDS
from server.core.feed import QUIET_DAYS, QUIET_ITEMS
from server.storage import retention, timeline, viewers
from server.storage.database import rows
from server.storage.timeline import timeline_page
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    new_epoch,
    number_of,
    post,
    tid,
    track,
)
from tests.storage.timeline_world import TRACKED, VIEWER, TimelineWorld, joined

LIMITS = (1, 2, 7, 100)
SEEDS = {"sqlite": range(25), "postgresql": range(200, 204)}
# The same for the test that reads with every limit there is.
WHOLE_RANGE = range(1, 101)
BY_RKEY = {feed.rkey: feed for feed in FEEDS}


@pytest.fixture(params=["as few are followed", "by any guess"])
def guess(request, monkeypatch):
    """How many somebody follows is only a guess, and what is looked at follows from it."""
    if request.param == "by any guess":
        guesses = random.Random(1)  # noqa: S311  the same in every run
        monkeypatch.setattr(
            timeline, "follow_count", lambda _: guesses.choice((0, 9, 17, 40, 80, 1_000))
        )
        monkeypatch.setattr(timeline, "MANY_FOLLOWS", 1)
        monkeypatch.setattr(timeline, "MOST_NEAR", 6)


@pytest.fixture
def kind(request):
    return request.node.callspec.params["database_url"]


@pytest.fixture
def seeds(kind):
    return SEEDS[kind]


def from_the_database(world, feed, beyond, limit):
    now_us = world.world.now_ms * 1000
    viewer, shown = number_of(VIEWER), feed.filter
    return timeline_page(viewer, shown, beyond, limit, now_us, oldest_first=feed.oldest_first)


def read(world, feed, limit, between=None, page=from_the_database):
    """All pages; each must be what the model says at its own moment."""
    pages, beyond, whole = [], None, world.feed(feed)
    while True:
        found = page(world, feed, beyond, limit)
        expected = [item for item in whole if beyond is None or is_beyond(feed, item.key, beyond)]
        assert found.items == expected[:limit]
        assert found.has_more == (len(expected) > limit)
        pages.append(found.items)
        if not found.has_more:
            return pages
        assert found.items, "an empty page before the end"
        beyond = found.items[-1].key
        if between is not None:
            between()
            whole = world.feed(feed)


def is_beyond(feed, key, place):
    return key > place if feed.oldest_first else key < place


def test_pages_joined_are_the_feed_that_the_model_expects(db, seeds, guess):
    for seed in seeds:
        world = TimelineWorld(seed)
        for feed in FEEDS:
            expected = world.feed(feed)
            for limit in (*LIMITS, world.rng.randint(3, 60)):
                found = joined(read(world, feed, limit))
                assert found == expected, f"seed {seed}, {feed.rkey}, limit {limit}"


def each_gives_the_feed(limits, feed):
    world = TimelineWorld(11)
    world.chatter()
    assert len(world.feed(BY_RKEY["everything"])) > 40
    for limit in limits:
        assert joined(read(world, feed, limit)) == world.feed(feed), f"limit {limit}"


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_every_limit_there_is_gives_the_same_feed(db, kind, feed, guess):
    # The rest for PostgreSQL take longer: below.
    each_gives_the_feed(WHOLE_RANGE if kind == "sqlite" else WHOLE_RANGE[::7], feed)


@pytest.mark.slow
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.rkey)
def test_every_limit_there_is_gives_the_same_feed_in_postgresql(postgresql, feed, guess):
    each_gives_the_feed(WHOLE_RANGE, feed)


def test_what_stays_while_the_world_changes_is_read_once(db, seeds, guess):
    for seed in seeds:
        world = TimelineWorld(seed)
        for feed in world.rng.sample(FEEDS, 3):
            limit, moments = world.rng.choice((1, 2, 5)), [set(map(str, world.feed(feed)))]

            def change(world=world, feed=feed, moments=moments):
                for _ in range(world.rng.randrange(3)):
                    world.deed()
                    moments.append(set(map(str, world.feed(feed))))

            found = joined(read(world, feed, limit, change))
            keys = [item.key for item in found]
            in_order = sorted(set(keys), reverse=not feed.oldest_first)
            assert keys == in_order, f"seed {seed}, {feed.rkey}"
            assert set.intersection(*moments) <= set(map(str, found)), f"seed {seed}, {feed.rkey}"


@pytest.mark.parametrize("limit", LIMITS)
def test_items_that_come_at_the_top_move_nothing_below(db, limit):
    world = TimelineWorld(1)
    feed = BY_RKEY["everything"]
    before = world.feed(feed)
    moment = iter(range(NOW_MS + 1000, NOW_MS + 2000))
    assert joined(read(world, feed, limit, lambda: world.write(next(moment)))) == before


def test_what_comes_while_one_reads_from_the_bottom_is_read_in_the_end(db):
    world = TimelineWorld(1)
    feed = BY_RKEY["catch-up"]
    moment = iter(range(NOW_MS + 1000, NOW_MS + 1005))

    def write():
        ms = next(moment, None)
        if ms is not None:
            world.write(ms)

    before = len(world.feed(feed))
    found = joined(read(world, feed, 7, write))
    assert found == world.feed(feed)
    assert len(found) > before


def test_the_newest_item_and_picture_of_each_author_are_known_whatever_happens(
    db, seeds, monkeypatch
):
    monkeypatch.setattr(retention, "KEPT_ITEMS", 3)
    trimmed = differing = are_loud = 0
    for seed in seeds[:10]:
        world = TimelineWorld(seed)
        for _ in range(30):
            world.deed()
            if world.rng.random() < 0.2:
                trimmed += retention.trim(number_of(world.rng.choice(TRACKED)), NOW_MS + 100)
            named = rows("SELECT author_id, newest_id, newest_media_id, loud_id FROM repos")
            assert len(named) == len(TRACKED)
            for author, newest, picture, loud in named:
                items = _newest_first(author)
                pictures = [key for key, is_picture in items if is_picture]
                assert newest == (items[0][0] if items else -1), f"seed {seed}"
                assert picture == (pictures[0] if pictures else -1), f"seed {seed}"
                beyond = items[QUIET_ITEMS:]
                assert loud == (beyond[0][0] if beyond else -1), f"seed {seed}"
                differing += 0 <= picture < newest
                are_loud += loud >= 0
    assert trimmed
    assert differing
    assert are_loud


def test_who_is_loud_is_quiet_again_when_one_item_is_deleted_or_old_enough(db):
    stream = Stream(new_epoch())
    viewers.welcome(did(VIEWER), NOW_US)
    track("ann")
    stream.say(VIEWER, follow(tid(1), "ann"))
    stream.say("ann", *(post(tid(n), NOW_MS + n) for n in range(QUIET_ITEMS + 1)))
    quiet, viewer = BY_RKEY["quiet"].filter, number_of(VIEWER)

    def shown(ms):
        return len(timeline_page(viewer, quiet, None, 100, ms * 1000).items)

    month_ms = QUIET_DAYS * 86_400_000
    assert [shown(NOW_MS + month_ms), shown(NOW_MS + month_ms + 1)] == [0, QUIET_ITEMS + 1]
    stream.say("ann", drop(tid(7)))
    assert shown(NOW_MS) == QUIET_ITEMS
    stream.say("ann", post(tid(7), NOW_MS + 7))
    assert shown(NOW_MS) == 0


def _newest_first(author):
    """Keys of somebody's items, each with whether it is a picture."""
    return rows(
        "SELECT id, coalesce(flags & 2 <> 0, FALSE) FROM feed_items WHERE author_id = ?"
        " ORDER BY id DESC",
        (author,),
    )


def test_a_feed_of_nobody_is_an_empty_last_page(db):
    for feed in FEEDS:
        number = number_of("newcomer")
        found = timeline_page(number, feed.filter, None, 30, NOW_US, oldest_first=feed.oldest_first)
        assert (found.items, found.has_more) == ([], False), feed.rkey


def test_the_worlds_have_what_the_rules_are_about(sqlite):
    """A world in which no rule ever decides would prove nothing."""
    left_out = {feed.rkey: 0 for feed in FEEDS if feed.rkey not in ("everything", "catch-up")}
    shown = dict.fromkeys(BY_RKEY, 0)
    seen = {"shown reply": 0, "repost": 0, "equal": 0, "inactive": 0, "quote reposted": 0}
    for seed in range(40):
        world = TimelineWorld(seed)
        everything = world.feed(BY_RKEY["everything"])
        keys = {feed.rkey: {item.key for item in world.feed(feed)} for feed in FEEDS}
        for rkey in left_out:
            base = "following" if rkey not in ("following", "posts-only") else "everything"
            left_out[rkey] += len(keys[base] - keys[rkey])
        for rkey in shown:
            shown[rkey] += len(keys[rkey])
        seen["shown reply"] += len(keys["no-reposts"] - keys["posts-only"])
        hidden = keys["following"] - keys["no-quotes"]
        seen["quote reposted"] += sum(1 for i in everything if i.key in hidden and i.repost_uri)
        seen["repost"] += sum(1 for item in everything if item.repost_uri)
        seen["equal"] += len(everything) - len({item.key >> 3 for item in everything})
        for _ in range(20):
            world.deed()
        seen["inactive"] += sum(1 for person in world.world.people.values() if not person.is_active)
    assert all(count >= 20 for counts in (left_out, shown) for count in counts.values()), left_out
    assert all(count >= 5 for count in seen.values()), seen
