"""kill -9 between every two durable steps: at each crash point, many times, on both databases.

The processes that die are our own `ingest`, forked from one that has everything imported; a web
process serves all along. CRASH_SEED sets the seed, CRASH_POINT_KILLS the number of kills.
"""

import faulthandler
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

from server.storage.crash_points import POINTS, VARIABLE
from simnet import FeedFailed, Network
from simnet.traffic import Traffic
from tests.system.databases import KINDS, gap_counts, gap_reasons
from tests.system.forks import Forks
from tests.system.troubles import HTTP_FAULTS, Troubles
from tests.system.truth import Reader
from tests.system.waiting import wait_until

SEED = int(os.environ.get("CRASH_SEED", "1"))
KILLS = int(os.environ.get("CRASH_POINT_KILLS", "100"))
EVENTS_A_SECOND = 40.0
# A point that is not reached by then, however often it is provoked, is never reached.
REACH_SECONDS = 30.0
PROVOKE_SECONDS = 0.4
SETTLE_SECONDS = 90.0
# Every so many deaths, somebody else interferes; and the feeds are compared.
RIVALS_EVERY, SLEEP_EVERY, COMPARE_EVERY = 5, 20, 50

# Passed by the web process, when somebody comes for the first time.
WEB_POINTS = [point for point in POINTS if point.startswith("viewer:")]
INGEST_POINTS = [point for point in POINTS if point not in WEB_POINTS]
# Passed often in one life: the death may come at a later pass.
FREQUENT = ("batch", "page")


class Stage:
    """A network with a crowd, a database, a web process, and ingest processes that die."""

    def __init__(self, net, database, make_service, forks, publisher):
        self.net, self.database, self.forks = net, database, forks
        self.rng = random.Random(SEED)  # noqa: S311  seeded chaos, no secret
        self.traffic = Traffic(net, SEED, count=12)
        self.traffic.write_history(120, days=3)
        self.troubles = Troubles(net, self.traffic, self.rng)
        self.strangers = [net.create_account(f"stranger{n}", pds=n % 2) for n in range(3)]
        self.done = Counter()
        environ = {"FEED_PUBLISHER_DID": publisher.did}
        self.web = make_service(net, database, command="web", environ=environ)
        self.reader = Reader(net, self.web, publisher)

    def open(self):
        """Make the tables, in lives that end at once, and let the viewers come."""
        for point in ("migrate: locked", "migrate: applied"):
            self.die_at(point)
        self.web.launch()
        child = self.forks.start("ingest")
        self.web.wait_until_ready()
        for viewer in self.troubles.viewers:
            self.reader.open(viewer)
        child.kill()

    def act(self, points, deaths):
        """While the crowd is at work: so many deaths, at each point in turn."""
        stop, order = threading.Event(), []
        crowd = self.traffic.start(EVENTS_A_SECOND, stop)
        try:
            for number in range(1, deaths + 1):
                order = order or self.rng.sample(points, len(points))
                self.rng.choice(self._troubles())()
                self.die_at(order.pop(), has_rival=number % RIVALS_EVERY == 0)
                if number % SLEEP_EVERY == 0:
                    self.sleep_through_a_fall()
                    self.lose_the_database()
        finally:
            stop.set()
            crowd.join()

    def die_at(self, point, has_rival=False):
        """One life of an ingest process, up to this point; a rival takes over, and is killed."""
        passes = self.rng.choice((1, 1, 2, 3)) if point.startswith(FREQUENT) else 1
        victim = self.forks.start("ingest", **{VARIABLE: f"{point}#{passes}"})
        deadline = time.monotonic() + REACH_SECONDS
        rival, next_provocation = None, time.monotonic()
        while victim.is_running:
            assert time.monotonic() < deadline, f"{point} is never reached\n{self.forks.log_text()}"
            if time.monotonic() >= next_provocation:
                next_provocation = time.monotonic() + PROVOKE_SECONDS
                self.provoke(point)
            if has_rival and rival is None and self._leads(victim):
                rival = self.forks.start("ingest")
            time.sleep(0.02)
        assert victim.status == -signal.SIGKILL, self.forks.log_text()
        self.done[point] += 1
        if rival is not None:
            time.sleep(self.rng.uniform(0, 0.6))
            self._kill(rival, "rivals that took over")

    def provoke(self, point):
        """Have something happen that leads past this point."""
        somebody = self.rng.choice([one for one in self.traffic.people if one.status == "active"])
        group = point.partition(":")[0]
        if group in ("page", "newest pages"):
            # Only a repo whose follows are wanted is not done with its opening.
            self.rng.choice(self.troubles.viewers).emit_sync()
        elif group == "gap":
            self.net.relay.stream.inject("garbage")
        elif group in ("snapshot", "finish", "group"):
            somebody.emit_sync()
        elif group == "failure":
            self.net.faults.arm("http-500", where={"host": somebody.pds.name})
            somebody.emit_sync()
        elif group == "absence":
            self._leave_while_being_fetched()
        elif group == "outside post":
            parent = self.rng.choice(self.strangers).post("of no interest to us")
            self.rng.choice(self.traffic.people[3:]).post("a reply", reply_to=parent)

    def sleep_through_a_fall(self):
        """The leader is paused; where the lock can be lost, another leads when it wakes up."""
        sleeper, other = self._leader(), self.forks.start("ingest")
        sleeper.send(signal.SIGSTOP)
        try:
            if self.database.drop_lock():
                # If it was stopped inside a transaction, the server has to end that first.
                wait_until(lambda: self._leads(other), 30, self.forks.log_text)
        finally:
            sleeper.send(signal.SIGCONT)
        time.sleep(self.rng.uniform(0, 0.5))
        assert sleeper.is_running, self.forks.log_text()
        for child in (sleeper, other):
            self._kill(child, "leaders that slept, and rivals")

    def lose_the_database(self):
        """It goes away under a working process, and comes back."""
        child = self._leader()
        with self.database.away():
            time.sleep(0.5)
        assert child.is_running, self.forks.log_text()
        self._kill(child, "databases away")

    def compare(self):
        """Let a process live until all is well; the number of items that agree."""
        child = self.forks.start("ingest")
        self.troubles.quieten()
        viewers = self.troubles.viewers
        compared = self.reader.settle(*viewers, seconds=SETTLE_SECONDS, database=self.database)
        child.kill()
        return compared

    def newcomer(self, point):
        """Somebody comes for the first time, and the process that writes it down dies there."""
        assert self.web.stop() == 0
        self.web.environ[VARIABLE] = point
        self.web.launch()
        self.web.wait_until_ready("/health")
        viewer = self.net.create_account(f"newcomer{self.done.total()}")
        viewer.follow(self.traffic.people[0], emit=False)
        with pytest.raises(FeedFailed):
            self.reader.read(viewer)
        assert f"crash point reached: {point}" in self.web.log_text()
        self.done[point] += 1
        assert self.web.stop() == 0
        del self.web.environ[VARIABLE]
        self.web.launch()
        self.web.wait_until_ready("/health")
        return viewer

    def _troubles(self):
        # One that hangs holds a worker for as long as a life lasts, and no point is reached.
        faults = [name for name in HTTP_FAULTS if name != "http-hang"]
        return [*self.troubles.harmless(), *(lambda n=n: self.troubles.arm(n) for n in faults)]

    def _leave_while_being_fetched(self):
        leaver = self.troubles.leavers[0]
        with self.net.world.lock:
            if leaver.status != "active":
                leaver.activate()
            leaver.emit_sync()
            leaver.deactivate()

    def _leader(self):
        child = self.forks.start("ingest")
        wait_until(lambda: self._leads(child), 15, self.forks.log_text)
        return child

    def _leads(self, child):
        holders = self.database.rows("SELECT holder FROM leases")
        return bool(holders) and holders[0][0].endswith(f":{child.pid}")

    def _kill(self, child, what):
        child.kill()
        self.done[what] += 1


@pytest.fixture
def stage(kind, make_database, make_service, tmp_path):
    # It takes minutes by nature; a dump of all threads each minute would only be noise.
    faulthandler.cancel_dump_traceback_later()
    with Network(seed=SEED, pds=2, rate_limit=1_000_000) as net:
        database = make_database(kind, tmp_path)
        publisher = net.create_account("publisher")
        environ = {**net.environment(publisher), "DATABASE_URL": database.url}
        environ |= {"HOME": str(tmp_path), "BACKFILL_WORKERS": "8"}
        with Forks(environ, tmp_path / "ingest.log") as forks:
            stage = Stage(net, database, make_service, forks, publisher)
            stage.open()
            yield stage


def told(stage, kind, compared):
    """The numbers of a campaign, for people."""
    opened, healed = gap_counts(stage.database)
    fired = dict(sorted(stage.net.faults.fired.items()))
    deaths = sum(stage.done[point] for point in POINTS)
    others = {what: count for what, count in stage.done.items() if what not in POINTS}
    assert opened == healed
    return [
        f"crash points, {kind}, seed {SEED}: {deaths} deaths at {len(POINTS)} points, {others},"
        f" {sum(fired.values())} faults, {stage.net.relay.stream.events} events, {compared} items"
        f" compared, 0 lost, 0 doubled; {opened} gaps opened, {healed} healed",
        "  faults: " + ", ".join(f"{name} {count}" for name, count in fired.items()),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_death_between_any_two_durable_steps_loses_and_doubles_nothing(stage, kind, report):
    compared = 0
    for _ in range(0, KILLS, COMPARE_EVERY):
        stage.act(INGEST_POINTS, COMPARE_EVERY)
        compared += stage.compare()
    newcomers = [stage.newcomer(point) for point in WEB_POINTS]
    stage.troubles.viewers += newcomers
    for viewer in newcomers:
        stage.reader.open(viewer)
    compared += stage.compare()
    for line in told(stage, kind, compared):
        report(line)
    assert [point for point in POINTS if stage.done[point] == 0] == []
    # No trouble of this campaign loses an event. A broken chain would mean that we did, and that
    # the next commit of its author healed it.
    assert "chain" not in gap_reasons(stage.database)
