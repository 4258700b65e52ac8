"""The service on a Jetstream, as it is run: nothing is missed through kills, and pages go on."""

import pytest

from simnet import Network, PatientClock
from tests.system.databases import KINDS, has_cursor
from tests.system.truth import Reader
from tests.system.waiting import wait_until

KILLS = 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_service_on_a_jetstream_survives_kills_whole(
    kind, version, tmp_path, make_database, make_service
):
    with Network(seed=41, pds=2, jetstreams=1, clock=PatientClock()) as net:
        publisher, database = net.create_account("publisher"), make_database(kind, tmp_path)
        (jetstream,) = net.jetstreams
        url = jetstream.v1_url if version == "v1" else jetstream.v2_url
        settings = {"FEED_PUBLISHER_DID": publisher.did, "STREAM_URLS": url}
        service = make_service(net, database, environ=settings)
        reader = Reader(net, service, publisher)
        people = [net.create_account(f"person{number}", pds=number % 2) for number in range(3)]
        viewer = net.create_account("viewer")
        for person in people:
            person.post("before", emit=False)
            viewer.follow(person, emit=False)
        service.start()
        assert reader.settle(viewer, database=database) == 3
        people[0].post("live")
        assert reader.settle(viewer, database=database) == 4
        wait_until(lambda: has_cursor(database), 10, "a place in the stream")
        for number in range(KILLS):
            for person in people:
                person.post(f"just before {number}")
            service.kill()
            people[0].post(f"meanwhile {number}")
            people[1].delete(people[1].post("and gone again"))
            service.start()
        total = 4 + KILLS * 4
        assert reader.settle(viewer, seconds=20, database=database) == total
        _read_on_after_a_kill(net, service, reader, viewer, total)
        assert service.stop() == 0
        assert "Traceback" not in service.log_path.read_text()


def _read_on_after_a_kill(net, service, reader, viewer, total):
    """The next page of one that was read before a kill."""
    page = net.get_feed(viewer, reader.uri("following"), 5)
    uris = [item.uri for item in page.items]
    service.kill()
    service.start()
    while page.cursor:
        page = net.get_feed(viewer, reader.uri("following"), 5, page.cursor)
        uris += [item.uri for item in page.items]
    assert (len(uris), len(set(uris))) == (total, total)
