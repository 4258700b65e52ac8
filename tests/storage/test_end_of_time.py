"""Items at the ends of what a place can say: in 1970, and in the last minutes before 2109."""

import pytest

from server.core.projection import SaveItem, project_record, sort_key
from server.core.syntax import POST, int_to_tid
from server.storage import items, records
from server.storage.database import rows, write_transaction
from server.storage.records import NEAR_MS
from tests.builders import Stream, make_live, number_of, track

# The last millisecond that a place can have.
LAST_MS = 2**42 - 1


@pytest.mark.parametrize("tid_ms", [0, LAST_MS - NEAR_MS - 1, LAST_MS - NEAR_MS, LAST_MS, 2**43])
@pytest.mark.parametrize("off", [-NEAR_MS, 0, NEAR_MS])
def test_at_the_ends_of_time_records_are_found_as_well(db, tid_ms, off):
    track("ann")
    author, rkey = number_of("ann"), tid_ms * 1000 << 10
    at_ms = min(max(tid_ms + off, 0), LAST_MS)
    item = SaveItem(POST, int_to_tid(rkey), at_ms, at_ms, 0, 0, None, None)
    with write_transaction():
        items.save_items({(author, rkey, 0): item}, items.Names({}, {}))
    assert len(records.find([(author, rkey, 0)])) == 1
    by_sql = records.post_sql("{p}.id", str(author), f"CAST({rkey} AS BIGINT)")
    assert len({row for sql in by_sql for row in rows(sql)}) == 1
    assert records.in_ranges([(author, 0, rkey, rkey)]) == {(author, rkey, 0)}
    assert [key for key, _ in records.from_key_on(author, 0, rkey)] == [rkey]
    assert records.least_rkeys([author]) == [(author, 0, rkey)]


def test_equals_at_the_last_date_of_all_do_not_stop_the_stream(db, lease):
    track("ann")
    make_live("ann", epoch=lease.epoch)
    record = {"text": "", "createdAt": "9999-12-31T23:59:59Z"}
    keys = (int_to_tid(n) for n in range(9))
    last = [project_record(POST, key, 2**18 - 1, record, 2**50) for key in keys]
    Stream(lease.epoch).say("ann", *last)
    first = sort_key(last[0].sort_ms, 2**18 - 1)
    assert rows("SELECT id FROM feed_items ORDER BY id") == [(first + n,) for n in range(9)]
