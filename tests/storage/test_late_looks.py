"""A look at what was touched, of a request whose time is over before the look is."""

import time

import pytest

from server.storage.allowance import OutOfTimeError, allowed
from server.storage.database import DatabaseError, shared_readers
from server.storage.prepared import prepared_rows
from server.storage.shared_readers import AT_ONCE
from tests.storage.test_touched import EVERYBODY, Ears, ears, touch_in_a_transaction

__all__ = ["ears"]


@pytest.mark.parametrize("is_too_late", ["to begin", "to end"])
def test_who_has_no_time_left_for_a_look_makes_nobody_forget_anything(sqlite, is_too_late):
    ears = Ears()
    ears.look()
    touch_in_a_transaction(1)
    ask, turns = ears.listener._ask, shared_readers()._turns
    taken = [turns.get() for _ in range(AT_ONCE if is_too_late == "to begin" else 0)]
    if not taken:
        endless = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
        ears.listener._ask = lambda _values: prepared_rows(endless, {})
    with allowed(0.1), pytest.raises(DatabaseError):
        ears.look()
    for one in taken:
        turns.put(one)
    ears.listener._ask = ask
    assert ears.look() == [[1]]
    assert ears.look() == []


def test_a_look_that_took_all_of_a_requests_time_is_not_taken_twice(ears, monkeypatch):
    touch_in_a_transaction(1)
    asked = []

    def fail(_values):
        asked.append(time.sleep(0.1))
        raise DatabaseError("it takes too long")

    monkeypatch.setattr(ears.listener, "_ask", fail)
    with allowed(0.05), pytest.raises(DatabaseError):
        ears.look()
    assert len(asked) == 1
    monkeypatch.undo()
    assert ears.look() == [EVERYBODY]


def test_who_waits_for_the_look_of_another_request_waits_no_longer_than_its_own_time(sqlite):
    ears = Ears()
    touch_in_a_transaction(1)
    began = time.monotonic()
    with ears.listener._turn, allowed(0.1), pytest.raises(OutOfTimeError):
        ears.look()
    assert time.monotonic() - began < 1
    assert ears.look() == [EVERYBODY]
