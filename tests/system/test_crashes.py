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
from simnet.traffic import Traffic
from tests.system.databases import KINDS, gap_counts, gap_reasons, open_gaps
from tests.system.service import Service
from tests.system.troubles import Trouble, Troubles, names_of_faults
from tests.system.truth import Reader
from tests.system.waiting import wait_until

SEED = int(os.environ.get("CRASH_SEED", "1"))
KILLS = int(os.environ.get("CRASH_KILLS", "6"))
SETTLE_SECONDS = float(os.environ.get("CRASH_SETTLE", "90"))
EVENTS_A_SECOND = 60.0
# What a hole that no relay admits must be longer than, so that it shows in the times of events.
OUTDATED_US = 61_000_000

DOWNTIMES = ("nothing", "forget", "renumber")


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
        self.troubles = Troubles(net, self.traffic, self.rng)
        self.viewers = self.troubles.viewers
        self.kills = 0

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
        reader.open(viewer)
    stop = threading.Event()
    crowd = campaign.traffic.start(EVENTS_A_SECOND, stop)
    wild = -(-kills // 2)
    try:
        campaign.rounds(service, wild, campaign.troubles.wild, DOWNTIMES, stop)
        campaign.troubles.provoke_what_has_not_fired(SETTLE_SECONDS)
        # The relay may have forgotten all the others before anybody read them, and this one too if
        # it were said before anybody listens. Behind it no trouble of the wild half is left.
        service.wait_until_connected()
        troubled = count_undecodable(database)
        net.relay.stream.inject("garbage")
        last = net.relay.stream.last_seq
        wait_until(
            lambda: count_undecodable(database) > troubled and read_up_to(database) > last,
            SETTLE_SECONDS,
            service.log_text,
        )
        wait_until(lambda: not open_gaps(database), SETTLE_SECONDS, service.log_text)
        ((before,),) = database.rows("SELECT max(id) FROM gaps")
        campaign.rounds(service, kills - wild, campaign.troubles.mild, ("nothing",), stop)
        campaign.troubles.break_a_chain(lambda: "chain" in gap_reasons(database), SETTLE_SECONDS)
    finally:
        stop.set()
        crowd.join()
    service.wait_until_ready()
    campaign.troubles.quieten()
    compared = reader.settle(*campaign.viewers, seconds=SETTLE_SECONDS, database=database)
    of_everybody = "SELECT reason FROM gaps WHERE id > ? AND author_id IS NULL"
    assert database.rows(of_everybody, (before,)) == []
    assert service.stop() == 0
    assert "Traceback" not in service.log_path.read_text(), service.log_text()
    return campaign, compared


def read_up_to(database) -> int:
    ((seq,),) = database.rows("SELECT coalesce(max(seq), 0) FROM stream_cursors")
    return int(seq)


def count_undecodable(database) -> int:
    ((count,),) = database.rows("SELECT count(*) FROM gaps WHERE reason LIKE ?", ("undecodable%",))
    return int(count)


def check(kind, kills, seed, make_database, make_service, tmp_path, report):
    # A hundred kills take minutes; a dump of all threads each minute would only be noise.
    faulthandler.cancel_dump_traceback_later()
    clock = Clock()
    # Everybody is fetched again after each hole: more than a real host would put up with.
    with Network(seed=seed, pds=2, clock=clock, rate_limit=1_000_000) as net:
        database = make_database(kind, tmp_path)
        campaign, compared = run_campaign(net, clock, database, make_service, kills, seed)
        fired = {name: net.faults.fired[name] for name in sorted(names_of_faults())}
        events, reasons = net.relay.stream.events, gap_reasons(database)
        opened, healed = gap_counts(database)
    report(
        f"crashes, {kind}, seed {seed}: {campaign.kills} kills, {sum(fired.values())} faults,"
        f" {events} events, {compared} items compared in {len(campaign.viewers)} feeds,"
        f" 0 lost, 0 doubled; {opened} gaps opened, {healed} healed"
    )
    report("  faults: " + ", ".join(f"{name} {count}" for name, count in fired.items()))
    report(f"  gaps: {', '.join(sorted(reasons))}")
    assert opened == healed
    assert [name for name, count in fired.items() if count == 0] == []
    assert "chain" in reasons


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
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
