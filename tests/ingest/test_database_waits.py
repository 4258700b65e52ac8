"""That the reader waits for the database is noted, whatever it asks or saves."""

import threading

import pytest

from server.ingest import start, subscriber
from server.storage.database import database
from server.storage.stalls import DatabaseWait
from simnet import Network
from tests.ingest.asking import item_count
from tests.ingest.conftest import wait_until

pytestmark = pytest.mark.usefixtures("db", "brisk")


@pytest.fixture
def net():
    with Network(seed=4, relays=1, jetstreams=1) as network:
        yield network


@pytest.fixture
def unnoted(monkeypatch):
    """What the reader's thread asked or told the database while nobody could see that it waits."""
    waits, statements = [], []

    class Noted(DatabaseWait):
        def __init__(self, who):
            super().__init__(who)
            waits.append(self)

    monkeypatch.setattr(subscriber, "DatabaseWait", Noted)
    execute_sql = database.obj.execute_sql

    def execute(sql, *args, **more):
        if threading.current_thread().name == "subscriber" and not waits[-1].look():
            statements.append(sql)
        return execute_sql(sql, *args, **more)

    monkeypatch.setattr(database.obj, "execute_sql", execute)
    return statements


def test_whatever_the_reader_asks_of_the_database_is_noted_as_waiting(
    net, alice, tracked, reading, unnoted, monkeypatch
):
    monkeypatch.setattr(start, "OVERLAP_MS", 0)
    monkeypatch.setattr(start, "PROBE_SECONDS", 0.1)
    relay, jetstream = net.relay.url, net.jetstreams[0].v2_url
    tracked(alice)
    for count, urls in enumerate((relay, jetstream, f"{relay}+{jetstream}"), 1):
        with reading(urls) as running:
            counters = running.subscriber.counters.values()
            wait_until(lambda all_of=counters: all(one.connected_us for one in all_of))
            alice.post("one more")
            wait_until(lambda count=count: item_count() == count)
    assert unnoted == []
