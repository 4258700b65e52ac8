"""What the database says of a source, of holes, and of who is to be fetched."""

from server.storage.cursors import load_cursor
from server.storage.database import execute, rows, value
from server.storage.gaps import open_gaps
from tests.ingest.conftest import wait_until


def host(net):
    return f"127.0.0.1:{net.relay.server.port}"


def cursor_seq(net):
    stored = load_cursor(host(net))
    return None if stored is None else stored.seq


def wait_for_all(net):
    """Until everything that the relay told is saved."""
    wait_until(lambda: cursor_seq(net) == net.relay.stream.last_seq, "the cursor's arrival")


def item_count():
    return value("SELECT count(*) FROM feed_items")


def all_rows():
    return {
        "items": sorted(rows("SELECT * FROM feed_items")),
        "follows": sorted(rows("SELECT * FROM follows")),
        "deleted": sorted(rows("SELECT author_id, rkey, collection, rev FROM tombstones")),
        "gaps": sorted(rows("SELECT * FROM gaps")),
    }


def reasons():
    return [(gap.did, gap.reason) for gap in open_gaps(99)]


def queued():
    return {
        did
        for (did,) in rows("SELECT a.did FROM backfill_jobs j JOIN authors a ON a.id = j.author_id")
    }


def age_cursor(net, ms):
    """As if the cursor had been written that long ago."""
    execute("UPDATE stream_cursors SET event_ms = event_ms - ? WHERE host = ?", (ms, host(net)))
