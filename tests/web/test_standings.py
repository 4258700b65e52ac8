"""How things stand is looked at by one thread, for which no other waits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.storage.database import DatabaseError
from server.web.standing import FRESH_SECONDS, Standings


def test_while_one_looks_the_others_are_given_what_was_found_before():
    clock, going, may_go = [0.0], threading.Event(), threading.Event()
    looks = []

    def slow_look():
        looks.append(len(looks))
        if len(looks) > 1:
            going.set()
            assert may_go.wait(10)
        return f"look {len(looks)}"

    standings = Standings(slow_look, lambda: clock[0])
    assert standings.get() == "look 1"
    clock[0] = FRESH_SECONDS - 0.1
    assert standings.get() == "look 1"
    clock[0] = FRESH_SECONDS
    thread = threading.Thread(target=standings.get)
    thread.start()
    assert going.wait(10)
    assert standings.get() == "look 1"
    may_go.set()
    thread.join()
    assert standings.get() == "look 2"
    assert len(looks) == 2


def test_nobody_waits_for_the_first_look_of_another():
    going, may_go = threading.Event(), threading.Event()

    def slow_look():
        going.set()
        assert may_go.wait(10)
        return "look"

    standings = Standings(slow_look)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(standings.get)
        assert going.wait(10)
        second = pool.submit(standings.get)
        try:
            with pytest.raises(DatabaseError, match="under way"):
                second.result(5)
        finally:
            may_go.set()
        assert first.result(5) == standings.get() == "look"
