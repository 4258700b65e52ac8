"""When what is read of PostgreSQL for a page counts as of the last look: on one run of one server.

A second look finds out otherwise. test_recent_race.py holds both against a writer.
"""

import os
import signal
from contextlib import closing
from functools import partial

import psycopg2
import pytest

from server.storage import touched
from server.storage.batch import Batch
from server.storage.database import DatabaseError, close_database, database, execute, value
from server.storage.migrate import migrate
from server.storage.opening import open_database
from server.storage.prepared import prepared_rows
from server.storage.touched import NOTED_SINCE
from tests.builders import NOW_MS, drop, post, tid
from tests.standby import Server
from tests.storage.test_recent_reads import Scene, Waits
from tests.storage.test_touched import (
    EVERYBODY,
    SEVEN,
    Ears,
    touch_and_fail,
    touch_in_a_transaction,
)
from tests.system.waiting import wait_until


def is_noted_since(heard):
    return prepared_rows(f"SELECT {NOTED_SINCE}", {"snapshot": heard.snapshot})[0][0]


def connect_anew():
    database.close()
    database.obj.close_idle()


def before_the_first(patch, recent, name, do):
    """Do something before the first call of a method of RecentItems."""
    call, calls = getattr(recent, name), []

    def first(*given):
        calls.append(name)
        if len(calls) == 1:
            do()
        return call(*given)

    patch.setattr(recent, name, first)


def test_a_statement_knows_whether_anything_was_noted_since_the_last_look(postgresql):
    ears = Ears()
    assert ears.listener.heard is None
    ears.look()
    heard = ears.listener.heard
    assert not is_noted_since(heard)
    with closing(psycopg2.connect(postgresql)) as slow, closing(slow.cursor()) as cursor:
        cursor.execute("INSERT INTO touched (accounts) VALUES (%s)", (SEVEN,))
        assert not is_noted_since(heard)
        touch_in_a_transaction(1)
        assert is_noted_since(heard)
        ears.look()
        # What was told of stands above one that was not, and is no news.
        heard = ears.listener.heard
        assert not is_noted_since(heard)
        slow.commit()
    assert is_noted_since(heard)
    assert ears.look() == [[7]]
    with pytest.raises(DatabaseError):
        touch_and_fail(1)
    assert not is_noted_since(ears.listener.heard)


def test_what_was_noted_since_the_last_look_is_known_also_when_it_is_dropped(postgresql):
    ears = Ears()
    ears.look()
    heard = ears.listener.heard
    touch_in_a_transaction(1)
    touched.forget(touched.place_of_now())
    execute("DELETE FROM touched")
    assert is_noted_since(heard)


def test_a_standby_does_not_say_which_transactions_were_under_way(streaming, reading):
    open_database(streaming.replica_url)
    ears = Ears()
    try:
        assert ears.look() == [EVERYBODY]
        assert ears.listener.heard is None
    finally:
        close_database()


def test_what_is_read_over_a_connection_that_is_newer_than_the_look_is_looked_after(
    postgresql, monkeypatch
):
    scene = Scene()
    scene.page()
    scene.stream.say("ann", post(tid(8), NOW_MS + 1))
    before_the_first(monkeypatch, scene.recent, "read_items", connect_anew)
    waits = Waits(scene.recent, monkeypatch)
    assert scene.page() == scene.from_the_database()
    assert waits.seen == ["look", "read_items", "look"]
    waits.seen.clear()
    scene.stream.say("ann", post(tid(9), NOW_MS + 2))
    assert scene.page() == scene.from_the_database()
    assert waits.seen == ["look", "read_items"]


def test_what_is_committed_between_the_look_and_the_one_read_is_on_the_page_as_a_whole(
    db, monkeypatch
):
    scene = Scene()
    scene.page(limit=3)
    scene.stream.say("dan", post(tid(8), NOW_MS))
    both = {"ann": drop(tid(0)), "dan": post(tid(9), NOW_MS)}
    batch = Batch(commits=[scene.stream.next(name, change) for name, change in both.items()])
    before_the_first(monkeypatch, scene.recent, "read_items", partial(scene.stream.save, batch))
    waits = Waits(scene.recent, monkeypatch)
    page = scene.page(limit=3)
    assert waits.seen[:3] == ["look", "read_items", "look"]
    assert page == scene.from_the_database(limit=3)


class ForgetfulServer(Server):
    """One that forgets in a crash what only its log in memory knew."""

    def suspend_log(self):
        """From now on only who commits brings it to the disk. The processes that are stopped."""
        found = self.ask(
            "SELECT array_agg(pid) FROM pg_stat_activity"
            " WHERE backend_type IN ('walwriter', 'background writer')"
        )
        assert len(found) == 2
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        return found

    def crash(self, suspended):
        """Without those the server starts anew by itself."""
        began = (
            "SELECT min(backend_start)::text FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        before = self.ask(began)
        for pid in suspended:
            os.kill(pid, signal.SIGKILL)

        def is_new():
            try:
                return self.ask(began) != before
            except psycopg2.OperationalError:
                return False

        wait_until(is_new, 20, self.log_text)


@pytest.fixture
def server():
    found = ForgetfulServer(autovacuum="off")
    try:
        found.start()
        yield found
    finally:
        close_database()
        found.stop()


def use_up_numbers(url):
    """Of transactions that leave nothing else."""
    with closing(psycopg2.connect(url)) as connection, closing(connection.cursor()) as cursor:
        for _ in range(100):
            cursor.execute("SELECT pg_current_xact_id()")
            connection.rollback()


def test_a_crash_after_the_look_that_gives_numbers_anew_brings_no_page_of_two_moments(
    server, monkeypatch
):
    url = server.create_database("gapless")
    open_database(url)
    migrate()
    scene = Scene()
    scene.page()
    scene.stream.say("ann", post(tid(8), NOW_MS + 1))
    both = {"ann": drop(tid(8)), "ben": post(tid(9), NOW_MS + 2)}
    commits = [scene.stream.next(name, change) for name, change in both.items()]
    suspended = server.suspend_log()
    use_up_numbers(url)

    def crash_and_go_on():
        undecided = int(scene.recent._listener.heard.snapshot.partition(":")[0])
        server.crash(suspended)
        connect_anew()
        scene.stream.save(Batch(commits=commits))
        # Those who ask from there on do not find it.
        assert value("SELECT max(place) FROM touched") < undecided

    before_the_first(monkeypatch, scene.recent, "read_items", crash_and_go_on)
    waits = Waits(scene.recent, monkeypatch)
    assert scene.page() == scene.from_the_database()
    assert "read_items" in waits.seen
