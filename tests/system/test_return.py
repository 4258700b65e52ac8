"""Somebody who stayed away is let go, comes back, and has a feed as if nothing had been."""

import pytest

from server.storage import departures, repos
from server.storage.database import close_database
from server.storage.opening import open_database
from simnet import Network, PatientClock
from simnet.clock import wall_clock_us
from tests.builders import NOW_US
from tests.system.truth import Reader

FAR_US = 2**62


class Stage:
    """A service with a viewer whose feed is complete."""

    def __init__(self, net, database, make_service):
        self.net, self.database = net, database
        publisher = net.create_account("publisher")
        self.service = make_service(net, database, environ={"FEED_PUBLISHER_DID": publisher.did})
        self.reader = Reader(net, self.service, publisher)
        self.viewer, self.friend = net.create_account("viewer"), net.create_account("friend", pds=1)
        self.viewer.follow(self.friend, emit=False)
        self.kept, self.deleted = self.friend.post("one"), self.friend.post("two")
        self.service.start()
        self.settle()

    def settle(self):
        return self.reader.settle(self.viewer, database=self.database)

    def let_all_go(self):
        """What the schedule does in a month, beside the running service; who is tracked then."""
        self.database.rows("UPDATE viewers SET last_us = 1")
        open_database(self.database.url)
        try:
            ((epoch,),) = self.database.rows("SELECT epoch FROM leases")
            for (number,) in self.database.rows("SELECT author_id FROM viewers"):
                assert departures.part_with_viewer(number, FAR_US, epoch, 1)
            for _ in range(2):
                departures.note_lonely(0, 999, 1)
                for number in departures.due(FAR_US, 99):
                    while departures.depart(number, epoch, NOW_US):
                        pass
        finally:
            close_database()
        sql = "SELECT count(*) FROM repos WHERE state <> ?"
        return self.database.rows(sql, (repos.LET_GO,))[0][0]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_viewer_who_was_let_go_comes_back_to_a_whole_feed(
    kind, tmp_path, make_database, make_service
):
    with Network(seed=17, pds=2, clock=PatientClock()) as net:
        stage = Stage(net, make_database(kind, tmp_path), make_service)
        assert stage.settle() == 2
        assert stage.let_all_go() == 0
        assert stage.database.rows("SELECT count(*) FROM feed_items") == [(0,)]
        # A process forgets whom it saw long before anybody is let go: this stands for the days.
        stage.service.kill()
        stage.service.start()
        other = net.create_account("other")
        other.post("of somebody new")
        stage.friend.delete(stage.deleted)
        stage.friend.post("while nobody was there")
        stage.viewer.follow(other)
        came_us = wall_clock_us()
        assert stage.settle() == 3
        # New again, and so waited for as the first time.
        ((first_us,),) = stage.database.rows("SELECT first_us FROM viewers")
        assert first_us >= came_us
        stage.friend.post("and on it goes")
        assert stage.settle() == 4
        assert stage.service.stop() == 0
        log = stage.service.log_path.read_text()
        assert "Traceback" not in log, stage.service.log_text()
