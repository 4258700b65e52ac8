"""What `status` and `doctor` say of replicas: one that is read from, and those that cannot be."""

import pytest

from server.commands.doctor_here import ADVICE
from server.storage.database import close_database
from server.storage.opening import open_database
from server.storage.replica_connection import REASONS
from tests.builders import wipe
from tests.devnet.ports import free_port


@pytest.fixture
def replicas(streaming):
    """The setting: a replica, one that is gone, and a primary by another name."""
    open_database(streaming.primary_url)
    wipe()
    close_database()
    gone = f"postgresql://u:secret@127.0.0.1:{free_port()}/gapless"
    return [streaming.replica_url, gone, streaming.primary_url.replace("127.0.0.1", "localhost")]


def test_status_says_of_each_replica_whether_it_is_read_from(streaming, replicas, gapless):
    setting = {"DATABASE_REPLICA_URLS": ",".join(replicas)}
    said = gapless(streaming.primary_url, "status", "--json", **setting).json()["replicas"]
    assert [one["problem"] for one in said] == [None, "unreachable", "primary"]
    assert said[0].keys() == {"name", "problem", "detail", "lag_bytes"}
    assert (said[0]["lag_bytes"], said[1]["lag_bytes"]) == (0, None)
    done = gapless(streaming.primary_url, "status", **setting)
    assert f"127.0.0.1:{streaming.replica.port}: can be read from, 0 bytes behind" in done.out
    assert "not read from, unreachable: " in done.out
    assert "secret" not in done.out + done.err


def test_doctor_says_what_to_do_about_each_replica(streaming, replicas, gapless):
    setting = {"DATABASE_REPLICA_URLS": ",".join(replicas)}
    found = gapless(streaming.primary_url, "doctor", "--local", "--json", **setting).json()
    about = [one for one in found["findings"] if one["name"].startswith("replica ")]
    assert [one["verdict"] for one in about] == ["ok", "warn", "fail"]
    assert "DATABASE_REPLICA_URLS" in about[2]["advice"]
    alone = gapless(streaming.primary_url, "doctor", "--local", "--json").json()
    assert not [one for one in alone["findings"] if one["name"].startswith("replica ")]


def test_there_is_advice_for_everything_that_can_be_wrong_with_a_replica():
    assert ADVICE.keys() == set(REASONS)


def test_replicas_beside_sqlite_end_the_start(gapless, sqlite_url, streaming):
    done = gapless(sqlite_url, "run", DATABASE_REPLICA_URLS=streaming.replica_url)
    assert done.status == 2
    assert "DATABASE_REPLICA_URLS is for PostgreSQL" in done.err
