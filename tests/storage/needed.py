"""What the database holds of somebody: how they are tracked, and how many rows there are."""

from server.storage.database import rows, value
from tests.builders import number_of


def state_of(name):
    found = rows("SELECT state, wants FROM repos WHERE author_id = ?", (number_of(name),))
    return found[0] if found else None


def rows_of(name):
    number = number_of(name)
    counted = (
        "SELECT count(*) FROM feed_items WHERE author_id = ?",
        "SELECT count(*) FROM follows WHERE viewer_id = ?",
        "SELECT count(*) FROM tombstones WHERE author_id = ?",
    )
    return sum(value(sql, (number,)) for sql in counted)
