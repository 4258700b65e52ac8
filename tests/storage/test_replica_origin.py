"""Whose replica it is: only one of our own database, in its own history, may give a page."""

import time

import pytest

from server.core.errors import ReplicaUnfit
from server.storage import replica_connection
from server.storage.database import close_database, value
from server.storage.migrate import migrate
from server.storage.opening import open_database
from server.storage.replica_connection import FAILING, FOREIGN, LAGGING, PRIMARY
from tests.builders import tid, unfollow
from tests.standby import Server, Standby, Streaming
from tests.storage.following_page import COUNT, add_row, of, page
from tests.system.waiting import wait_until


def test_a_promoted_replica_is_not_used_any_more(stream, standby, make_reading):
    reading = make_reading(standby.url("gapless"))
    reading.settle()
    standby.ask("SELECT pg_promote()")
    # What somebody writes there is nothing of ours.
    standby.ask("DELETE FROM feed_items", "gapless")
    for _ in range(3):
        assert len(reading.read(page)) == 20
    assert (reading.places, reading.refusals) == ({"primary": 3}, {PRIMARY: 1})
    # A replica of it has another history.
    follower = Standby(standby)
    try:
        follower.start()
        other = make_reading(follower.url("gapless"))
        assert len(other.read(page)) == 20
        assert (other.places, other.refusals) == ({"primary": 1}, {FOREIGN: 1})
        (state,) = other.replicas.look()
        assert "another system, database or timeline" in state.detail
    finally:
        follower.stop()


@pytest.mark.slow
def test_the_replica_of_another_server_is_refused(stream, make_reading):
    other = Server()
    follower = Standby(other)
    try:
        other.start()
        other.create_database("gapless")
        follower.start()
        reading = make_reading(follower.url("gapless"))
        assert len(reading.read(page)) == 20
        assert (reading.places, reading.refusals) == ({"primary": 1}, {FOREIGN: 1})
        reading = make_reading(other.url("gapless"))
        assert len(reading.read(page)) == 20
        assert (reading.places, reading.refusals) == ({"primary": 1}, {PRIMARY: 1})
    finally:
        follower.stop()
        other.stop()


@pytest.mark.slow
def test_the_replica_of_a_copy_that_went_its_own_way_is_refused(
    stream, streaming, make_reading, impatient
):
    """It has our system identifier, timeline, database and tables."""
    copy = Standby(streaming.primary, streams=False)
    follower = Standby(copy)
    try:
        copy.start()
        follower.start()
        # To begin with, our log is the longer one.
        streaming.primary.lengthen_log(4)
        stream.say("vera", unfollow(tid(1)))
        reading = make_reading(follower.url("gapless"))
        assert of("ann", reading.read(page)) == []
        assert (reading.places, reading.refusals) == ({"primary": 1}, {LAGGING: 1})
        copy.lengthen_log(8)
        reading = make_reading(follower.url("gapless"))
        wait_until(lambda: reading.replicas.look()[0].problem == FOREIGN, 10, "it has replayed")
        assert of("ann", reading.read(page)) == []
        assert (reading.places, reading.refusals) == ({"primary": 1}, {FOREIGN: 1})
        (state,) = reading.replicas.look()
        assert "ahead of the primary" in state.detail
    finally:
        follower.stop()
        copy.stop()


@pytest.mark.slow
def test_after_a_failover_a_replica_is_used_when_it_knows_the_new_history(make_reading):
    """What promoted servers write could otherwise be compared with what the old one had written."""
    servers = Streaming()
    other = Standby(servers.primary)
    try:
        servers.start()
        other.start()
        servers.primary.kill()
        servers.replica.ask("SELECT pg_promote()")
        open_database(servers.replica_url)
        migrate()
        reading = make_reading(other.url("gapless"))
        assert reading.read(lambda: value(COUNT)) == 0
        assert (reading.places, reading.refusals) == ({"primary": 1}, {FOREIGN: 1})
        place = f"host=127.0.0.1 port={servers.replica.port} user=postgres"
        other.ask(f"ALTER SYSTEM SET primary_conninfo = '{place}'")
        other.ask("SELECT pg_reload_conf()")
        # What the operator's checkpoint_timeout does by itself in minutes.
        wait_until(lambda: other.ask("CHECKPOINT") or _is_fit(reading), 20, "it is used")
        add_row()
        reading.settle()
        assert reading.read(lambda: value(COUNT)) == 1
        assert reading.places == {"replica": 1}
    finally:
        close_database()
        other.stop()
        servers.stop()


def _is_fit(reading):
    return reading.replicas.look()[0].problem is None


def test_another_database_of_the_same_server_is_refused(stream, streaming, make_reading):
    reading = make_reading(streaming.replica.url("postgres"))
    assert len(reading.read(page)) == 20
    assert reading.places == {"primary": 1}
    assert reading.refusals.keys() <= {FOREIGN, LAGGING}
    (state,) = reading.replicas.look()
    assert state.problem == FOREIGN


def test_nothing_can_be_written_by_way_of_a_replica(standby, replicated):
    standby.ask("SELECT pg_promote()")
    connection = replica_connection.ReplicaConnection(standby.url("gapless"), time.monotonic() + 10)
    with pytest.raises(ReplicaUnfit, match="failing"):
        connection.rows("DELETE FROM feed_items")
    connection.close()


@pytest.fixture
def reader_role(streaming):
    """A database user who may read our tables, and nothing else."""
    streaming.primary.ask("CREATE ROLE plain LOGIN IN ROLE pg_read_all_data")
    yield lambda url: url.replace("//postgres@", "//plain@")
    streaming.primary.ask("DROP ROLE plain")


def test_a_user_who_may_read_is_enough(streaming, replicated, reader_role, make_reading):
    open_database(reader_role(streaming.primary_url))
    reading = make_reading(reader_role(streaming.replica_url))
    reading.settle()
    assert reading.read(lambda: value("SELECT current_user")) == "plain"
    assert reading.places == {"replica": 1}
    close_database()


def test_where_the_primary_does_not_tell_its_position_it_gives_the_pages(
    streaming, replicated, reader_role, make_reading
):
    told = "EXECUTE ON FUNCTION pg_control_system"
    streaming.primary.ask(f"REVOKE {told} FROM public", "gapless")
    try:
        open_database(reader_role(streaming.primary_url))
        reading = make_reading(reader_role(streaming.replica_url))
        assert reading.read(lambda: value("SELECT current_user")) == "plain"
        assert (reading.places, reading.refusals) == ({"primary": 1}, {FAILING: 1})
        (state,) = reading.replicas.look()
        assert (state.problem, "position" in state.detail) == (FAILING, True)
        close_database()
    finally:
        streaming.primary.ask(f"GRANT {told} TO public", "gapless")
