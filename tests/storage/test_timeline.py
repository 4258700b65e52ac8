"""Pages of a feed against the model in tests/expected.py, while the world goes on changing."""

import pytest

from feeds import FEEDS
from server.storage.timeline import timeline_page
from tests.builders import NOW_MS, number_of
from tests.storage.timeline_world import VIEWER, TimelineWorld, joined

LIMITS = (1, 2, 7, 100)
SEEDS = {"sqlite": range(90), "postgresql": range(200, 218)}


@pytest.fixture
def seeds(request):
    return SEEDS[request.node.callspec.params["database_url"]]


def read(world, shown, limit, between):
    """All pages; each must be what the model says at its own moment."""
    pages, below = [], None
    while True:
        page = timeline_page(number_of(VIEWER), shown, below, limit)
        expected = [item for item in world.feed(shown) if below is None or item.key < below]
        assert page.items == expected[:limit]
        assert page.has_more == (len(expected) > limit)
        pages.append(page.items)
        if not page.has_more:
            return pages
        assert page.items, "an empty page before the end"
        below = page.items[-1].key
        between()


def test_pages_joined_are_the_feed_that_the_model_expects(db, seeds):
    for seed in seeds:
        world = TimelineWorld(seed)
        for feed in FEEDS:
            expected = world.feed(feed.filter)
            for limit in LIMITS:
                found = joined(read(world, feed.filter, limit, lambda: None))
                assert found == expected, f"seed {seed}, {feed.rkey}, limit {limit}"


def test_what_stays_while_the_world_changes_is_read_once(db, seeds):
    for seed in seeds:
        world = TimelineWorld(seed)
        shown, limit = world.rng.choice(FEEDS).filter, world.rng.choice((1, 2, 5))
        moments = [set(map(str, world.feed(shown)))]

        def change(world=world, shown=shown, moments=moments):
            for _ in range(world.rng.randrange(3)):
                world.deed()
                moments.append(set(map(str, world.feed(shown))))

        found = joined(read(world, shown, limit, change))
        keys = [item.key for item in found]
        assert keys == sorted(set(keys), reverse=True), f"seed {seed}"
        assert set.intersection(*moments) <= set(map(str, found)), f"seed {seed}"


@pytest.mark.parametrize("limit", LIMITS)
def test_items_that_come_at_the_top_move_nothing_below(db, limit):
    world = TimelineWorld(1)
    shown = FEEDS[1].filter
    before = world.feed(shown)
    moment = iter(range(NOW_MS + 1000, NOW_MS + 2000))
    assert joined(read(world, shown, limit, lambda: world.write(next(moment)))) == before


def test_a_feed_of_nobody_is_an_empty_last_page(db):
    page = timeline_page(number_of("newcomer"), FEEDS[0].filter, None, 30)
    assert (page.items, page.has_more) == ([], False)


def test_the_worlds_have_what_the_rules_are_about(sqlite):
    """A world in which no rule ever decides would prove nothing."""
    seen = {"shown reply": 0, "hidden reply": 0, "repost": 0, "equal": 0, "inactive": 0}
    for seed in range(40):
        world = TimelineWorld(seed)
        following = {item.key for item in world.feed(FEEDS[0].filter)}
        everything = world.feed(FEEDS[1].filter)
        no_replies = {item.key for item in world.feed(FEEDS[2].filter)}
        hidden = [item for item in everything if item.key not in following]
        seen["hidden reply"] += len(hidden)
        seen["shown reply"] += sum(
            1 for item in everything if item.key in following and item.key not in no_replies
        )
        seen["repost"] += sum(1 for item in everything if item.repost_uri)
        seen["equal"] += len(everything) - len({item.key >> 3 for item in everything})
        for _ in range(20):
            world.deed()
        seen["inactive"] += sum(1 for person in world.world.people.values() if not person.is_active)
    assert all(count >= 20 for count in seen.values()), seen
