"""Several ingest processes: one leads, and another takes over, whatever ends the first."""

import signal

import pytest

from simnet import Network, PatientClock
from tests.system.databases import KINDS
from tests.system.truth import Reader
from tests.system.waiting import wait_until

TAKEOVER_SECONDS = 15.0


class Rivals:
    """One web process and two ingest processes on one database."""

    def __init__(self, net, database, make_service):
        self.net, self.database = net, database
        self.publisher = net.create_account("publisher")
        environ = {"FEED_PUBLISHER_DID": self.publisher.did}
        self.web = make_service(net, database, command="web", environ=environ)
        self.ingests = [make_service(net, database, command="ingest") for _ in range(2)]
        self.reader = Reader(net, self.web, self.publisher)
        # All at once, on an empty database: one of them makes the tables.
        for process in (self.web, *self.ingests):
            process.launch()
        self.web.wait_until_ready()
        self.author, self.viewer = net.create_account("author"), net.create_account("viewer")
        self.viewer.follow(self.author, emit=False)
        self.author.post("at first")
        self.reader.settle(self.viewer, database=database)

    def lease(self):
        """Who leads, and the epoch."""
        ((holder, epoch),) = self.database.rows("SELECT holder, epoch FROM leases")
        return int(holder.rpartition(":")[2]), epoch

    @property
    def leader(self):
        pid, _ = self.lease()
        return next(ingest for ingest in self.ingests if ingest.pid == pid)

    @property
    def other(self):
        return next(ingest for ingest in self.ingests if ingest is not self.leader)

    def wait_for_epoch_after(self, epoch):
        def log_texts():
            return "\n".join(ingest.log_text() for ingest in self.ingests)

        wait_until(lambda: self.lease()[1] > epoch, TAKEOVER_SECONDS, log_texts)


@pytest.fixture
def make_rivals(make_database, make_service, tmp_path):
    networks = []

    def make(kind):
        net = Network(seed=9, clock=PatientClock())
        networks.append(net)
        net.start()
        return Rivals(net, make_database(kind, tmp_path), make_service)

    yield make
    for net in networks:
        net.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_leader_is_killed_the_other_takes_over(make_rivals, kind):
    rivals = make_rivals(kind)
    dead, survivor = rivals.leader, rivals.other
    _, epoch = rivals.lease()
    rivals.author.post("unsaved, perhaps")
    dead.kill()
    rivals.author.post("while nobody leads")
    rivals.wait_for_epoch_after(epoch)
    assert rivals.lease() == (survivor.pid, epoch + 1)
    assert rivals.reader.settle(rivals.viewer, database=rivals.database) == 3
    dead.launch()
    wait_until(lambda: "standing by" in dead.log_text(), 10, "the first one stands by")
    assert survivor.stop() == 0
    rivals.wait_for_epoch_after(epoch + 1)
    assert rivals.leader is dead
    rivals.author.post("and on")
    assert rivals.reader.settle(rivals.viewer, database=rivals.database) == 4
    assert dead.stop() == 0


def test_a_leader_whose_lock_is_dropped_leads_no_more(make_rivals):
    rivals = make_rivals("postgresql")
    _, epoch = rivals.lease()
    rivals.database.drop_lock()
    rivals.wait_for_epoch_after(epoch)
    rivals.author.post("under the next leader")
    assert rivals.reader.settle(rivals.viewer, database=rivals.database) == 2
    wait_until(
        lambda: any(
            "lead was lost" in i.log_text() or "led," in i.log_text() for i in rivals.ingests
        ),
        TAKEOVER_SECONDS,
        "the deposed one has noticed",
    )
    assert all(ingest.is_running for ingest in rivals.ingests)
    for ingest in rivals.ingests:
        assert ingest.stop() == 0


@pytest.mark.slow
def test_a_leader_that_sleeps_through_its_fall_writes_nothing_when_it_wakes(make_rivals):
    rivals = make_rivals("postgresql")
    sleeper, other = rivals.leader, rivals.other
    _, epoch = rivals.lease()
    for number in range(50):
        rivals.author.post(f"in its buffers {number}")
    sleeper.send(signal.SIGSTOP)
    try:
        for number in range(50):
            rivals.author.post(f"in its socket {number}")
        rivals.database.drop_lock()
        rivals.wait_for_epoch_after(epoch)
        assert rivals.leader is other
        assert rivals.reader.settle(rivals.viewer, database=rivals.database) == 101
    finally:
        sleeper.send(signal.SIGCONT)
    wait_until(lambda: "standing by" in sleeper.log_text(), TAKEOVER_SECONDS, sleeper.log_text)
    assert rivals.leader is other
    rivals.author.post("and on")
    assert rivals.reader.settle(rivals.viewer, database=rivals.database) == 102
    for ingest in rivals.ingests:
        assert ingest.stop() == 0
