"""Whom a web process knows, also where nothing can be written."""

import logging
from pathlib import Path

import pytest

from server.storage import viewers
from server.storage.cursors import StreamCursor, save_cursor
from server.storage.database import DatabaseError, execute, is_sqlite, value
from server.web.sightings import TOUCH_SECONDS, Sightings
from tests.builders import HOST, NOW_MS, NOW_US, did, number_of

LATER_US = NOW_US + (TOUCH_SECONDS + 1) * 1_000_000


def refuse_writes(is_refused=True):
    """In this thread's connection; a full disk looks like that, too."""
    if is_sqlite():
        execute(f"PRAGMA query_only = {int(is_refused)}")
    else:
        execute(f"SET default_transaction_read_only = {'on' if is_refused else 'off'}")


@pytest.mark.parametrize("process", ["the same", "a new one"])
def test_where_nothing_can_be_written_known_viewers_are_known(db, process, caplog):
    sightings = Sightings()
    number = sightings.see(did("vera"), NOW_US).number
    if process == "a new one":
        sightings = Sightings()
    refuse_writes()
    with caplog.at_level(logging.WARNING):
        assert [sightings.see(did("vera"), LATER_US + n).number for n in range(3)] == [number] * 3
        with pytest.raises(DatabaseError):
            sightings.see(did("walt"), LATER_US)
    refuse_writes(False)
    assert caplog.text.count("cannot be written down") == 1
    assert value("SELECT last_us FROM viewers") == NOW_US


def test_where_nothing_can_be_written_who_was_let_go_is_not_taken_for_known(db):
    sightings = Sightings()
    number = sightings.see(did("vera"), NOW_US).number
    viewers.forget(number)
    refuse_writes()
    with pytest.raises(DatabaseError):
        sightings.see(did("vera"), LATER_US)
    refuse_writes(False)
    assert sightings.see(did("vera"), LATER_US + 1).first_us == LATER_US + 1


def test_who_came_back_by_way_of_another_process_is_as_new_to_all(db):
    one, other = Sightings(), Sightings()
    for process in (one, other):
        process.see(did("vera"), NOW_US)
    viewers.forget(number_of("vera"))
    assert one.see(did("vera"), LATER_US).first_us == LATER_US
    assert other.see(did("vera"), LATER_US + 5).first_us == LATER_US


def test_where_no_lock_can_be_made_known_viewers_are_known(sqlite):
    number = Sightings().see(did("vera"), NOW_US).number
    # As on a file system that has turned read-only.
    lock = Path(f"{sqlite.removeprefix('sqlite:///')}.write-lock")
    lock.unlink()
    lock.mkdir()
    assert Sightings().see(did("vera"), LATER_US).number == number
    lock.rmdir()


def test_who_was_seen_by_a_clock_that_was_ahead_is_written_down_as_soon_as_it_is_right(db):
    sightings = Sightings()
    sightings.see(did("vera"), NOW_US + 365 * 86_400_000_000)
    # Else they would be let go in a while, here every day as they are.
    sightings.see(did("vera"), NOW_US)
    assert value("SELECT last_us FROM viewers") == NOW_US


def test_who_was_here_a_moment_ago_was_not_here_earlier_by_a_machine_that_is_behind(db):
    Sightings().see(did("vera"), NOW_US)
    Sightings().see(did("vera"), NOW_US - 600_000_000)
    assert value("SELECT last_us FROM viewers") == NOW_US
    viewers.welcome(did("vera"), NOW_US - 600_000_000)
    assert value("SELECT last_us FROM viewers") == NOW_US


def test_a_machine_whose_clock_begins_in_1970_makes_nobody_seem_to_have_been_away(db):
    save_cursor(StreamCursor(HOST, 1, NOW_MS), NOW_US)
    Sightings().see(did("vera"), NOW_US + 1)
    Sightings().see(did("vera"), 1)
    assert value("SELECT last_us FROM viewers") == NOW_US + 1
    number = Sightings().see(did("walt"), 1).number
    assert value("SELECT last_us FROM viewers WHERE author_id = ?", (number,)) == NOW_US
