"""What tests of the reconciliation say of the stream, and ask of the ledger."""

import time

from server.backfill import reconcile
from server.storage import gaps
from server.storage.batch import Batch
from server.storage.changes import commit_batch
from server.storage.cursors import StreamCursor
from tests.builders import HOST, NOW_US


def stream_is_at(epoch, ms_from_now, batch=None, *, host=HOST, has_chain=True):
    """What the stream told up to a time is saved."""
    event_ms = time.time_ns() // 1_000_000 + ms_from_now
    cursor = StreamCursor(host, event_ms, event_ms, has_chain)
    commit_batch(batch or Batch(), cursor, epoch, NOW_US)


def findings():
    return [(gap.did, gap.reason) for gap in gaps.open_gaps(9)]


def look_and_let_the_stream_pass(watching):
    """A round, then the stream goes on, then what it did not explain is settled."""
    watching.run()
    stream_is_at(watching.sources.epoch, reconcile.SETTLE_MS + 1000)
    watching._settle()
