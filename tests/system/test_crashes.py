"""Everything goes wrong at once, and at the end nobody's feed lacks or doubles anything.

Seeded. The moment of each kill is left to chance, since that is the point; what goes wrong, and in
which order, is the seed's. CRASH_KILLS sets the number of kills, CRASH_SEED the seed.
"""

import faulthandler
import os
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from simnet import Network
from simnet.clock import wall_clock_us
from simnet.traffic import Happening, Traffic
from tests.system.databases import KINDS, gap_reasons, open_gaps
from tests.system.service import Service
from tests.system.truth import Reader
from tests.system.waiting import wait_until

SEED = int(os.environ.get("CRASH_SEED", "1"))
KILLS = int(os.environ.get("CRASH_KILLS", "6"))
SETTLE_SECONDS = float(os.environ.get("CRASH_SETTLE", "90"))
EVENTS_A_SECOND = 60.0
# What a hole that no relay admits must be longer than, so that it shows in the times of events.
OUTDATED_US = 61_000_000

COMMIT = {"kind": "#commit"}
HTTP_FAULTS = {
    "http-500": {"times": 3},
    "http-503-html": {"times": 2},
    "http-429": {"retry_after_s": 1},
    "http-hang": {"delay_s": 2.0},
    "http-drop": {"times": 2},
    "http-cut-body": {},
    "http-huge": {},
    "http-garbage": {},
    "list-foreign": {},
    "list-same-cursor": {},
    "list-broken-record": {"times": 3},
    "list-empty-page": {"times": 2},
}
STREAM_FAULTS = ("stream-drop", "stream-duplicate", "stream-too-big", "stream-no-blocks")
STRANGE_FRAMES = ("garbage", "text", "empty", "header-only", "fields-missing", "unknown-type")
DOWNTIMES = ("nothing", "forget", "renumber")

Trouble = Callable[[], object]


class Clock:
    """The network's clock: it runs behind, and can leap towards now."""

    def __init__(self) -> None:
        self.behind_us = 3_600_000_000

    def __call__(self) -> int:
        return wall_clock_us() - self.behind_us

    def leap(self) -> None:
        self.behind_us -= OUTDATED_US


class Campaign:
    """A crowd at work, and what happens to the service meanwhile."""

    def __init__(self, net: Network, clock: Clock, seed: int) -> None:
        self.net, self.clock = net, clock
        self.rng = random.Random(seed)  # noqa: S311  seeded chaos, no secret
        self.traffic = Traffic(net, seed, count=16)
        self.traffic.write_history(150, days=3)
        self.leavers = [net.create_account(f"leaver{n}", pds=n % 2) for n in range(3)]
        self.viewers = self.traffic.people[:3]
        for leaver in self.leavers:
            leaver.post("before I go", emit=False)
            self.viewers[0].follow(leaver, emit=False)
        self.kills = self.happenings = 0
        self.traffic.on_happening = self._count

    def _count(self, _: Happening) -> None:
        self.happenings += 1

    def wild_troubles(self) -> list[Trouble]:
        """Each kind of trouble once, in a random order."""
        relay = self.net.relay.stream
        troubles: list[Trouble] = [
            *(lambda what=what: relay.inject(what) for what in STRANGE_FRAMES),
            lambda: relay.inject("garbage", stored=False),
            *(lambda name=name: self.arm(name) for name in HTTP_FAULTS),
        ]
        return self._shuffled(troubles + self.mild_troubles())

    def mild_troubles(self) -> list[Trouble]:
        """The same without those that leave a hole of everybody."""
        relay, faults = self.net.relay.stream, self.net.faults
        troubles: list[Trouble] = [
            *(lambda how=how: relay.cut(how) for how in ("close", "reset", "too-slow")),
            *(
                lambda name=name: faults.arm(name, times=2, every=3, where=COMMIT)
                for name in STREAM_FAULTS
            ),
            self._pause,
            self._wander,
            self._leave_and_return,
            self._leave_for_good,
        ]
        return self._shuffled(troubles)

    def rounds(
        self,
        service: Service,
        kills: int,
        make_troubles: Callable[[], list[Trouble]],
        downtimes: Sequence[str],
        stop: threading.Event,
    ) -> None:
        """Trouble and a kill, so many times; each kind comes before any comes again."""
        troubles: list[Trouble] = []
        for number in range(kills):
            troubles = troubles or make_troubles()
            rounds_left = max(1, min(kills, 3) - number % 3)
            for _ in range(-(-len(troubles) // rounds_left)):
                troubles.pop()()
                stop.wait(self.rng.uniform(0, 0.2))
            service.kill()
            self.kills += 1
            self.while_down(downtimes[number % len(downtimes)])
            service.launch()
            if self.rng.random() < 0.7:
                service.wait_until_ready()
            stop.wait(self.rng.uniform(0, 1.0))

    def while_down(self, what: str) -> None:
        """What a relay may do while nobody reads."""
        stream = self.net.relay.stream
        if what == "forget":
            for _ in range(10):
                self.traffic.step()
            stream.forget(keep=0)
            self.clock.leap()
        elif what == "renumber":
            stream.renumber(first_seq=self.rng.choice((1, 1_000_000)))

    def provoke_what_has_not_fired(self) -> None:
        """A fault of a request waits for one: have everybody fetched again until all came."""
        fired = self.net.faults.fired

        def left() -> list[str]:
            return [name for name in HTTP_FAULTS if not fired[name]]

        for name in left():
            self.arm(name)
        if left():
            self.net.relay.stream.inject("garbage")
        wait_until(lambda: not left(), SETTLE_SECONDS, lambda: f"never fired: {left()}")
        for name in HTTP_FAULTS:
            self.net.faults.disarm(name)

    def quieten(self) -> None:
        """The end of all trouble: whoever has been silent since a loss says something again."""
        self.net.relay.stream.resume()
        self.net.faults.disarm()
        for account in self.net.accounts():
            if account.status == "deactivated":
                account.activate()
            if account.status == "active":
                account.post(f"{account.handle} is still here")

    def _shuffled(self, troubles: list[Trouble]) -> list[Trouble]:
        self.rng.shuffle(troubles)
        return troubles

    def arm(self, name: str) -> None:
        settings = {"times": 1, **HTTP_FAULTS[name]}
        host = f"pds{self.rng.randrange(2)}"
        where = {"host": host}
        if name in ("http-huge", "http-garbage", "http-cut-body"):
            where["method"] = "com.atproto.repo.listRecords"
        self.net.faults.arm(name, where=where, **settings)

    def _pause(self) -> None:
        stream = self.net.relay.stream
        stream.stall()
        threading.Timer(0.5, stream.resume).start()

    def _wander(self) -> None:
        mover = self.rng.choice(self.traffic.people[3:])
        mover.migrate(1 - mover.state.pds)

    def _leave_and_return(self) -> None:
        person = self.rng.choice(self.traffic.people[3:])
        if person.status == "active":
            person.deactivate()
            threading.Timer(0.7, lambda: person.activate()).start()

    def _leave_for_good(self) -> None:
        staying = [leaver for leaver in self.leavers if leaver.status == "active"]
        if staying:
            staying[0].delete_account()


def run_campaign(net, clock, database, make_service, kills, seed):
    """First half: everything goes wrong. Second half: only what must not cost a fetch of everybody.

    A hole of everybody heals all there is, also what went wrong for another reason: hence a second
    half without one. Returns the campaign, the service and the number of items compared.
    """
    campaign = Campaign(net, clock, seed)
    publisher = net.create_account("publisher")
    service = make_service(net, database, environ={"FEED_PUBLISHER_DID": publisher.did})
    reader = Reader(net, service, publisher)
    service.start()
    for viewer in campaign.viewers:
        reader.read(viewer)
    stop = threading.Event()
    crowd = campaign.traffic.start(EVENTS_A_SECOND, stop)
    wild = -(-kills // 2)
    try:
        campaign.rounds(service, wild, campaign.wild_troubles, DOWNTIMES, stop)
        campaign.provoke_what_has_not_fired()
        # The relay may have forgotten all the others before anybody read them.
        net.relay.stream.inject("garbage")
        wait_until(lambda: has_undecodable(database), SETTLE_SECONDS, service.log_text)
        wait_until(lambda: not open_gaps(database), SETTLE_SECONDS, service.log_text)
        ((before,),) = database.rows("SELECT max(id) FROM gaps")
        campaign.rounds(service, kills - wild, campaign.mild_troubles, ("nothing",), stop)
    finally:
        stop.set()
        crowd.join()
    service.wait_until_ready()
    campaign.quieten()
    compared = reader.settle(*campaign.viewers, seconds=SETTLE_SECONDS, database=database)
    of_everybody = "SELECT reason FROM gaps WHERE id > ? AND author_id IS NULL"
    assert database.rows(of_everybody, (before,)) == []
    assert service.stop() == 0
    assert "Traceback" not in service.log_path.read_text(), service.log_text()
    return campaign, compared


def has_undecodable(database) -> bool:
    return any("undecodable" in reason for reason in gap_reasons(database))


def names_of_faults() -> set[str]:
    """Everything that must have happened by the end, as the network counts it."""
    cuts = {f"stream-{how}" for how in ("close", "reset", "too-slow")}
    strange = {f"stream-{what}" for what in STRANGE_FRAMES}
    odd = {"stream-stall", "stream-forget", "stream-renumber"}
    return {*HTTP_FAULTS, *STREAM_FAULTS, *cuts, *strange, *odd}


def check(kind, kills, seed, make_database, make_service, tmp_path, report):
    # A hundred kills take minutes; a dump of all threads each minute would only be noise.
    faulthandler.cancel_dump_traceback_later()
    clock = Clock()
    # Everybody is fetched again after each hole: more than a real host would put up with.
    with Network(seed=seed, pds=2, clock=clock, rate_limit=1_000_000) as net:
        database = make_database(kind, tmp_path)
        campaign, compared = run_campaign(net, clock, database, make_service, kills, seed)
        fired = {name: net.faults.fired[name] for name in sorted(names_of_faults())}
        reasons = gap_reasons(database)
    report(
        f"crashes, {kind}, seed {seed}: {campaign.kills} kills, {sum(fired.values())} faults,"
        f" {campaign.happenings} happenings of the crowd, {compared} items compared in"
        f" {len(campaign.viewers)} feeds, 0 lost, 0 doubled"
    )
    report("  faults: " + ", ".join(f"{name} {count}" for name, count in fired.items()))
    report(f"  gaps: {', '.join(sorted(reasons))}")
    assert [name for name, count in fired.items() if count == 0] == []
    assert "chain" in reasons


@pytest.mark.parametrize("kind", KINDS)
def test_no_kill_and_no_fault_loses_or_doubles_anything(
    kind, make_database, make_service, tmp_path, report
):
    check(kind, KILLS, SEED, make_database, make_service, tmp_path, report)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_kills_lose_and_double_nothing(
    kind, make_database, make_service, tmp_path, report
):
    check(kind, max(100, KILLS), SEED + 1, make_database, make_service, tmp_path, report)
