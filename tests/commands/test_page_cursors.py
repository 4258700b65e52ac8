"""What an app holds of a feed, the cursor of its next page, is good over a copy that is put back.

The database is copied and put back as docs/operating.md says: SQLite by our commands, PostgreSQL by
its own. Pages are those of every feed, of a world that goes on between the two.
"""

import pytest

from feeds import FEEDS
from server.core.feed import FeedCursor
from server.storage.database import close_database, is_sqlite
from server.storage.opening import open_database
from server.storage.timeline import timeline_page
from tests.builders import number_of
from tests.storage.test_pg_dump import run, shown
from tests.storage.test_timeline import is_beyond
from tests.storage.timeline_world import VIEWER, TimelineWorld

LIMIT = 4
DEEDS = 30


@pytest.fixture
def copy_of_sqlite(gapless, tmp_path):
    def copy(url):
        made = gapless(url, "backup", "--json", "--to", str(tmp_path / "copies"))
        assert made.status == 0, made.err

        def put_back():
            close_database()
            done = gapless(url, "restore", made.json()["path"], "--replace")
            assert done.status == 0, done.err
            open_database(url)

        return put_back

    return copy


@pytest.fixture
def copy_of_postgresql(request, tmp_path):
    made = []

    def copy(url):
        postgres = request.getfixturevalue("postgres")
        run(shown("pg_dump"), tmp_path, DATABASE_URL=url)

        def put_back():
            made.append(f"{postgres.shared}_back")
            new_url = postgres.create(made[0])
            run(shown("pg_restore"), tmp_path, NEW_DATABASE_URL=new_url)
            close_database()
            open_database(new_url)

        return put_back

    yield copy
    close_database()
    for name in made:
        request.getfixturevalue("postgres").drop(name)


@pytest.fixture
def copy(db, copy_of_sqlite, copy_of_postgresql):
    """Copies the database; called again, what comes back puts the copy in its place."""
    return lambda: (copy_of_sqlite if is_sqlite() else copy_of_postgresql)(db)


class Moment:
    """The moment at which all pages are asked for: some feeds depend on it."""

    def __init__(self, now_us):
        self.now_us = now_us

    def page(self, feed, cursor):
        """Items, and the cursor that an app gets with them."""
        beyond = None if cursor is None else FeedCursor.decode(cursor).key
        up = feed.oldest_first
        page = timeline_page(
            number_of(VIEWER), feed.filter, beyond, LIMIT, self.now_us, oldest_first=up
        )
        return page.items, FeedCursor(page.items[-1].key).encode() if page.has_more else None

    def rest(self, feed, cursor):
        """All that comes after it."""
        found = []
        while cursor is not None:
            items, cursor = self.page(feed, cursor)
            found += items
        return found


def test_a_cursor_is_good_over_a_copy_that_is_put_back(db, copy):
    world = TimelineWorld(11)
    world.chatter()
    now, before = Moment(world.world.now_ms * 1000), {feed: world.feed(feed) for feed in FEEDS}
    begun = {feed: now.page(feed, None) for feed in FEEDS}
    put_back = copy()
    for _ in range(DEEDS):
        world.deed()
    assert all(world.feed(feed) != before[feed] for feed in FEEDS)
    # Read on in what goes on: it ends at places that the copy may not know.
    later = {feed: now.page(feed, cursor)[1] for feed, (_, cursor) in begun.items() if cursor}
    put_back()
    for feed, (items, cursor) in begun.items():
        assert items + now.rest(feed, cursor) == before[feed], feed.rkey
    places = {feed: FeedCursor.decode(cursor).key for feed, cursor in later.items() if cursor}
    for feed, place in places.items():
        expected = [item for item in before[feed] if is_beyond(feed, item.key, place)]
        assert now.rest(feed, later[feed]) == expected, feed.rkey
    assert len(places) > len(FEEDS) // 2
