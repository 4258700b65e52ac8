"""A viewer's page, and a table in which every commit shows; asked wherever `rows` is asked."""

from feeds import FEEDS
from server.storage.database import execute
from server.storage.timeline import timeline_page
from tests.builders import NOW_US, did, number_of

COUNT = "SELECT count(*) FROM odd_rkeys"


def add_row():
    """Commit something."""
    execute("INSERT INTO odd_rkeys (rkey) VALUES (md5(random()::text))")


def page():
    """The viewer's newest fifty."""
    found = timeline_page(number_of("vera"), FEEDS[0].filter, None, 50, NOW_US)
    return [item.post_uri for item in found.items]


def of(name, uris):
    """Those of one author."""
    return [uri for uri in uris if did(name) in uri]
