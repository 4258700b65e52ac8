"""A database that stands still for seconds, under a service as it is run."""

from contextlib import closing, contextmanager

import psycopg2
import pytest

from tests.system.databases import SqliteFile
from tests.system.waiting import wait_until

STILL, OVER = "still waiting for the database who=stream", "waited for the database who=stream"


@contextmanager
def standing_still(database):
    """Somebody else has what a batch wants."""
    if isinstance(database, SqliteFile):
        with database.away():
            yield
        return
    with closing(psycopg2.connect(database.url)) as other:
        other.cursor().execute("LOCK TABLE feed_items IN EXCLUSIVE MODE")
        yield
        other.rollback()


@pytest.mark.slow
def test_a_database_that_stands_still_is_told_in_the_log_and_nothing_is_lost(place):
    author, log = place.net.create_account("author"), place.service.log_path.read_text
    viewer = place.viewer("viewer", author)
    author.post("before")
    place.reader.settle(viewer, database=place.database)
    assert STILL not in log()
    with standing_still(place.database):
        author.post("meanwhile")
        wait_until(lambda: STILL in log(), 10, "the standstill is told")
    wait_until(lambda: f" {OVER}" in log(), 10, "its end is told")
    assert place.reader.settle(viewer, database=place.database) == 2
    assert (log().count(STILL), log().count("leading epoch")) == (1, 1)
