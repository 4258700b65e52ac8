"""A backup of long ago, put back, becomes the truth again by itself."""

import subprocess
import sys

import pytest

from simnet import Network
from tests.system.databases import SqliteFile, gap_reasons, has_cursor
from tests.system.service import ROOT
from tests.system.test_holes import MINUTE_US, Clock
from tests.system.truth import Reader
from tests.system.waiting import wait_until


@pytest.fixture
def clock():
    return Clock()


def command(service, *words):
    """Run a command with the settings of a service; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *words],
        cwd=ROOT,
        env=service.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_restored_backup_heals_even_beyond_what_the_relay_keeps(clock, tmp_path, make_service):
    database, copies = SqliteFile(tmp_path / "feeds.db"), tmp_path / "copies"
    with Network(seed=31, pds=2, clock=clock) as net:
        publisher = net.create_account("publisher")
        environ = {"FEED_PUBLISHER_DID": publisher.did, "BACKUP_DIR": str(copies)}
        service = make_service(net, database, environ=environ)
        reader = Reader(net, service, publisher)
        alice, bob, viewer = (net.create_account(name) for name in ("alice", "bob", "viewer"))
        gone = alice.post("in the backup, deleted later")
        bob.post("of somebody unfollowed later")
        for account in (alice, bob):
            viewer.follow(account, emit=False)
        service.start()
        reader.settle(viewer, database=database)
        alice.post("the first event")
        assert reader.settle(viewer) == 3
        wait_until(lambda: has_cursor(database), 10, "a place in the stream")
        # The service makes the first backup by itself; it may have been too early for all this.
        wait_until(lambda: list(copies.glob("gapless-*.db")), 15, "a backup was made")
        made = command(service, "backup", "--to", str(tmp_path / "second"))
        path = made.partition(":")[0]

        # What the backup does not know: items come and go, so do follows, somebody new arrives.
        alice.delete(gone)
        carol, late = net.create_account("carol"), net.create_account("late")
        carol.post("of somebody followed later")
        viewer.follow(carol)
        viewer.unfollow(bob)
        late.follow(carol, emit=False)
        reader.settle(late)
        assert reader.settle(viewer, database=database) == 2
        assert service.stop() == 0
        alice.post("while nobody listened")
        net.relay.stream.forget()
        clock.behind_us -= 2 * MINUTE_US

        said = command(service, "restore", path, "--replace")
        assert "feeds.db.replaced-" in said
        assert database.rows("SELECT count(*) FROM viewers") == [(1,)]
        service.start()
        net.create_account("stranger").post("the first event after the hole")
        wait_until(lambda: gap_reasons(database) == {"cursor outdated"}, 10, "the hole is noticed")
        assert reader.settle(viewer, database=database) == 3
        # The one whom the backup does not know is a new viewer.
        assert reader.settle(late, database=database) == 1
        assert service.stop() == 0
        assert "Traceback" not in service.log_path.read_text(), service.log_text()
    assert net.faults.fired["stream-forget"] == 1
