"""The last hour in numbers."""

import pytest

from server.storage import history
from server.storage.database import execute, rows
from server.storage.history import Sample
from server.storage.many_rows import insert_rows
from tests.builders import NOW_US, Stream, post, tid, track

pytestmark = pytest.mark.usefixtures("db")
STEP_US = history.SAMPLE_SECONDS * 1_000_000


def test_a_sample_says_how_things_stand(lease):
    history.note(7, NOW_US)
    track("ann", "bob")
    Stream(lease.epoch).say("ann", post(tid(1)))
    history.note(9, NOW_US + STEP_US)
    first, second = history.samples(0)
    assert first == Sample(NOW_US, None, 7, 0, 0)
    assert second == Sample(NOW_US + STEP_US, history.SAMPLE_SECONDS * 1000, 9, 2, 1)


def test_an_hour_is_kept_and_nothing_of_a_future_that_will_not_be():
    for number in range(300):
        history.note(number, NOW_US + number * STEP_US)
    assert len(rows("SELECT 1 FROM history")) == 241
    assert len(history.samples(NOW_US + 299 * STEP_US)) == 1
    history.note(1, NOW_US)
    assert [one.at_us for one in history.samples(0)] == [NOW_US]


def test_many_items_are_counted_now_and_then_only():
    many = history.MANY_ITEMS + 1
    insert_rows(
        "INSERT INTO history (at_us, frames, waiting, items)", [(NOW_US - STEP_US, 0, 0, many)]
    )
    due_us = NOW_US // 600_000_000 * 600_000_000 + 600_000_000
    history.note(0, due_us - 2 * STEP_US)
    history.note(0, due_us)
    assert [one.items for one in history.samples(due_us - 2 * STEP_US)] == [many, 0]
    execute("DELETE FROM history")


def test_rates_are_between_neighbours_of_one_lead():
    at = [Sample(n * STEP_US, None, frames, 0, 0) for n, frames in enumerate((0, 150, 20, 50))]
    assert history.frames_each_second(at) == [(STEP_US, 10.0), (3 * STEP_US, 2.0)]
    apart = [Sample(0, None, 0, 0, 0), Sample(10 * STEP_US, None, 100, 0, 0)]
    assert history.frames_each_second(apart) == []
    assert history.frames_each_second([]) == []
