"""What a clock that was behind wrote is of long ago when the clock is right again."""

import pytest

from server.core.syntax import POST
from server.storage import tombstones
from server.storage.batch import Batch
from server.storage.database import value
from server.storage.page_rows import Page
from server.storage.pages import Snapshot
from tests.builders import (
    NOW_US,
    Stream,
    commit_page,
    drop,
    finish,
    job_of,
    post,
    store_snapshot,
    tid,
    track,
)


@pytest.mark.usefixtures("db")
def test_a_mark_that_a_clock_that_was_behind_wrote_is_kept_while_a_backfill_reads(lease):
    track("alice")
    stream, job = Stream(lease.epoch), job_of("alice", lease.epoch)
    first = stream.next("alice", post(tid(1)))
    stream.save(Batch(commits=[first]))
    assert store_snapshot(job, first.rev, lease.epoch) is Snapshot.STORED
    stream.save(Batch(commits=[stream.next("alice", drop(tid(1)))]), now_us=1)
    assert tombstones.expire(NOW_US) == 0
    has = Page(POST, [post(tid(1))], {tid(1)}, None, None)
    assert commit_page(job, has, lease.epoch)
    assert value("SELECT count(*) FROM feed_items") == 0
    assert finish(job, 0, lease.epoch)
    assert tombstones.expire(NOW_US) == 1
