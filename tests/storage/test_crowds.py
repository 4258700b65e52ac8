"""What it costs to find records of somebody who writes crowds of them: nothing, once it is told."""

import pytest

from server.core.projection import QUOTE, SaveItem
from server.core.syntax import POST, int_to_tid
from server.storage import items, page_rows, records
from server.storage.database import current, rows, value, write_transaction
from tests.builders import NOW_MS, number_of, track

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A low bound, to be quick."""
    monkeypatch.setattr(records, "CROWD", 20)


def tracked():
    track("ann")
    return number_of("ann")


@pytest.fixture
def looked(monkeypatch):
    """How many rows each look found, from the last `clear` on."""
    counts = []
    joined = records.rows_joined

    def watched(*args):
        found = joined(*args)
        counts.append(len(found))
        return found

    monkeypatch.setattr(records, "rows_joined", watched)
    return counts


def steps(function):
    """How many steps SQLite takes for what the function asks of it."""
    taken = []
    connection = current().connection()
    connection.set_progress_handler(lambda: taken.append(1), 1)
    function()
    connection.set_progress_handler(None, 0)
    return len(taken)


def saved(author, tid_ms):
    """Save a post of a key with this time, where it belongs; the key's number."""
    rkey = tid_ms * 1000 << 10
    item = SaveItem(POST, int_to_tid(rkey), tid_ms, tid_ms, 0, 0, None, None)
    with write_transaction():
        items.save_items({(author, rkey, 0): item}, items.Names({}, {}))
    return rkey


def test_nobody_has_many_rows_looked_through_again_and_again_by_what_is_dropped(db, looked):
    """A commit can say of 200 records that they are gone, whether there were any or not."""
    author = tracked()
    held = [saved(author, NOW_MS + day * DAY_MS + n) for day in range(30) for n in range(19)]
    assert rows("SELECT author_id FROM crowded_authors") == []
    absent = [(author, rkey + 1, 0) for rkey in held[::19]]
    with write_transaction():
        assert items.drop_items(absent) == 0
        looked.clear()
        assert items.drop_items([*absent, (author, held[-1], 0)]) == 1
    assert looked == [0, 1]
    assert rows("SELECT author_id FROM crowded_authors") == [(author,)]
    assert value("SELECT count(*) FROM feed_items") == len(held) - 1


def test_nobody_has_many_rows_looked_through_again_and_again_by_what_is_changed(db, looked):
    """A commit can change 200 records, and say of each that it is of another day."""
    author = tracked()
    held = [saved(author, NOW_MS + day * DAY_MS + n) for day in range(60) for n in range(19)]
    of_day = held[::19]
    changed = {}
    for first, other in zip(of_day[:30], of_day[30:], strict=True):
        rkey, ms = int_to_tid(first), (other >> 10) // 1000
        changed[author, first, 0] = SaveItem(POST, rkey, ms, ms, 0, QUOTE, None, None)
    for count in (60 * 19, 0):
        looked.clear()
        with write_transaction():
            items.save_items(changed, items.Names({}, {}))
        assert looked[0] == count
    assert rows("SELECT author_id FROM crowded_authors") == [(author,)]
    assert value("SELECT count(*) FROM feed_items") == len(held)


def test_who_is_nearly_a_crowd_all_the_time_is_none_by_a_record_more_or_less(db):
    author = tracked()
    held = [saved(author, NOW_MS + 3_100 * n) for n in range(90)]
    again = saved(author, NOW_MS + 3_100 * 45)
    with write_transaction():
        assert items.drop_items([(author, again, 0)]) == 1
    assert again in held
    assert rows("SELECT author_id FROM crowded_authors") == []


def test_one_look_reads_no_more_rows_than_a_crowd_has(db, looked):
    author = tracked()
    held = [saved(author, NOW_MS + 3_100 * n) for n in range(90)]
    looked.clear()
    assert len(records.find([(author, held[45], 0)])) == 1
    assert max(looked) <= 20


def test_who_drops_many_records_of_one_time_has_no_crowd(db):
    author = tracked()
    held = [saved(author, NOW_MS + day * DAY_MS + n) for day in range(9) for n in range(9)]
    with write_transaction():
        assert items.drop_items([(author, rkey, 0) for rkey in held[::2]]) == 41
    assert rows("SELECT author_id FROM crowded_authors") == []


def test_the_least_keys_of_a_crowd_take_as_long_however_large_it_is(sqlite):
    """For they are asked for whenever the repo is fetched anew."""
    author = tracked()
    first = saved(author, NOW_MS)
    taken = []
    for count in (50, 500):
        for n in range(count):
            saved(author, NOW_MS + n)
        assert rows("SELECT author_id FROM crowded_authors") == [(author,)]
        assert page_rows.least_keys([author]) == {author: {POST: int_to_tid(first)}}
        taken.append(steps(lambda: page_rows.least_keys([author])))
    assert taken[1] == pytest.approx(taken[0], rel=0.1)
