"""Two relays read together by the service as it is run: one loses one event in a hundred."""

import http.client
import time
from contextlib import closing

import pytest

from server.ingest.merge import CLOCK_SKEW_MS
from simnet import Network, PatientClock
from tests.system.databases import gap_reasons
from tests.system.truth import Reader
from tests.system.waiting import wait_until
from tests.web.test_metrics import number

TOKEN = "of-the-operator-0123456789"  # noqa: S105
POSTS = 400
EVERY = 100
# Half a minute until anybody is judged, up to a minute more until the log says so.
TOLD_SECONDS = 150.0


def scrape(service):
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=15)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().read().decode()


@pytest.mark.slow
def test_a_relay_that_drops_one_event_in_a_hundred_costs_nothing_and_is_named(
    tmp_path, make_database, make_service
):
    with Network(seed=29, pds=2, relays=2, clock=PatientClock()) as net:
        publisher, whole, lossy = net.create_account("publisher"), *net.relays
        database = make_database("sqlite", tmp_path)
        settings = {
            "FEED_PUBLISHER_DID": publisher.did,
            "STREAM_URLS": f"{whole.url}+{lossy.url}",
            "ADMIN_TOKEN": TOKEN,
        }
        service = make_service(net, database, environ=settings)
        reader = Reader(net, service, publisher)
        authors = [net.create_account(f"author{number}", pds=number) for number in range(2)]
        viewer, somebody = net.create_account("viewer"), net.create_account("somebody")
        for author in authors:
            viewer.follow(author, emit=False)
        service.start()
        reader.settle(viewer, database=database)
        # What may have happened before both were read is nobody's loss.
        judged_from = time.monotonic() + CLOCK_SKEW_MS / 1000 + 2
        wait_until(lambda: time.monotonic() > judged_from, TOLD_SECONDS, "the clock goes")
        where = {"host": lossy.stream.host, "kind": "#commit"}
        net.faults.arm("stream-drop", times=None, every=EVERY, where=where)
        for post in range(POSTS):
            authors[post % 2].post(str(post))
        net.faults.disarm()
        lost = net.faults.fired["stream-drop"]
        assert lost == POSTS // EVERY
        assert reader.settle(viewer, database=database) == POSTS
        names = [f"127.0.0.1:{relay.server.port}" for relay in (whole, lossy)]

        def outcomes(outcome):
            # Who lost something is known when it tells what came after.
            somebody.post("on it goes")
            text, name = scrape(service), "gapless_hedged_events_total"
            return [number(text, name, source=one, outcome=outcome) for one in names]

        wait_until(lambda: outcomes("missing") == [0, lost], TOLD_SECONDS, service.log_text)
        told = [sum(both) for both in zip(outcomes("first"), outcomes("late"), strict=True)]
        assert told == [POSTS, POSTS - lost]
        line = f"source loses events source={names[1]} missing={lost} "
        wait_until(lambda: line in service.log_text(), TOLD_SECONDS, service.log_text)
        assert f"source loses events source={names[0]}" not in service.log_text()
        assert "chain" not in gap_reasons(database)
        assert service.stop() == 0
