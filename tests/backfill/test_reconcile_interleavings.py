"""Looks at a PDS at any moment, beside stream and backfill: they find what was lost, no more."""

from threading import Event as StopEvent

import pytest

from server.backfill import author, look, pds, reconcile
from server.backfill.reconcile import Reconcile
from server.core.events import UNTOLD
from server.storage import discrepancies
from server.storage.batch import Batch
from server.storage.changes import void_chains
from server.storage.database import value
from server.storage.gaps import open_gaps
from server.storage.repos import FOLLOWS, LIVE
from tests.backfill import seam_world
from tests.backfill.seam_world import AUTHOR, FIRST_RECORDS, PAGE_RECORDS, Crash, SeamWorld
from tests.builders import NOW_MS, NOW_US, tid

KEYS = [tid(-n) for n in range(5)]
STEP_MS = 1000
# Fewer than what the world does before it comes to rest, so that looks meet everything.
PASSED_MS = 2 * STEP_MS


class WatchedWorld(SeamWorld):
    """A seam world with a clock, in which somebody looks at the PDS now and then."""

    def __init__(self, seed, loses, carries_chain=True):
        self.now_ms = NOW_MS
        self.made_ms = {}
        self.loses = loses
        self.looks = 0
        self.is_looking = False
        super().__init__(seed, KEYS, 3650)
        self.steps = 40
        self.carries_chain = carries_chain
        self.watching = self.new_watching()

    def something(self):
        self.now_ms += STEP_MS
        chance = self.rng.random()
        if chance < 0.15 and not self.is_looking:
            self.look()
        elif chance < 0.3:
            self.watching._settle()
        super().something()

    def look(self):
        self.is_looking = True
        self.looks += 1
        try:
            for tour in self.watching.tours:
                for repo in discrepancies.complete_after(0, 9):
                    if tour.name == "everybody" or repo.wants & FOLLOWS:
                        self.watching._look(tour, repo)
        except Crash:
            # What was suspected is in memory only.
            self.watching = self.new_watching()
        self.is_looking = False

    def new_watching(self):
        return Reconcile(self.sources, StopEvent(), lambda: self.carries_chain)

    def commit(self):
        super().commit()
        self.made_ms[self.repo.rev] = self.now_ms

    def lose(self):
        if self.loses and self.waiting:
            super().lose()

    def reset(self):
        # Holes that we know of are another test's business.
        self.lose()

    def event_ms(self):
        # Just before what is told next; with nothing left to tell, other people's events go on.
        return self.made_ms[self.waiting[0].rev] - 1 if self.waiting else self.now_ms

    def end(self):
        """Nothing but a look can tell of the last commit, if it was lost."""
        if self.loses:
            self.commit()
            self.waiting.pop()

    def settle(self):
        """No more commits, and looks until they show nothing."""
        self.steps = 0
        self.end()
        for _ in range(20):
            self.confirm()
            while self.waiting:
                self.deliver()
            self.confirm()
            if self.backfill():
                continue
            self.look()
            if not self.watching.suspicions:
                return
            self.now_ms += 2 * PASSED_MS
            self._save(Batch(), self.seq + 1)
            self.watching._settle()
        raise AssertionError("it does not come to rest")


class HoppingWorld(WatchedWorld):
    """Now a relay is read, and now a Jetstream, which shows no chain and leaves out what is empty.

    The Jetstream loses. The relay does not, and goes on where it was left or a little before now.
    """

    def __init__(self, seed):
        # What came by on the Jetstream since the relay was left.
        self.passed = []
        super().__init__(seed, loses=True)
        self.steps = 80
        self.more = (self.hop, self.lose)

    def hop(self):
        self.carries_chain = not self.carries_chain
        if not self.carries_chain:
            return
        again = self.passed
        if self.rng.random() < 0.5:
            void_chains(self.epoch)
            again = again[len(again) - min(len(again), self.rng.randrange(3)) :]
        self.waiting.extendleft(reversed(again))
        self.passed = []

    def deliver(self):
        if self.carries_chain:
            super().deliver()
            return
        batch, count = Batch(), self.rng.randint(1, 4)
        told = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        self.passed += told
        if AUTHOR in self.tracked.wants:
            batch.commits += [piece for commit in told for piece in pieces_of(commit)]
        self._save(batch, self.seq + len(told))

    def lose(self):
        if not self.carries_chain:
            self.passed += list(self.waiting)[:1]
            super().lose()

    def sync(self):
        """What was missing would be fetched, and not found."""

    def end(self):
        """On a relay that has the last commit, so that what was lost before is older."""
        if not self.carries_chain:
            self.hop()
        self.commit()


def pieces_of(commit):
    if commit.hole is not None:
        return [commit._replace(since=UNTOLD)]
    return [commit._replace(since=UNTOLD, changes=[change]) for change in commit.changes]


@pytest.fixture
def run(monkeypatch):
    worlds = []
    monkeypatch.setattr(pds, "PAGE_RECORDS", PAGE_RECORDS)
    monkeypatch.setattr(pds, "FIRST_RECORDS", FIRST_RECORDS)
    monkeypatch.setattr(author, "_now_us", lambda: NOW_US)
    # The worlds are of another time than the test.
    monkeypatch.setattr(look, "LISTED_DAYS", 3650)
    monkeypatch.setattr(reconcile, "SETTLE_MS", PASSED_MS)
    monkeypatch.setattr(reconcile, "_now_us", lambda: worlds[-1].now_ms * 1000)

    def run_world(seed, make=WatchedWorld, **options):
        worlds[:] = [make(seed, **options)]
        worlds[-1].run()
        return worlds[-1]

    return run_world


def found():
    return value("SELECT count(*) FROM gaps WHERE detail IS NOT NULL")


def assert_looks_find_what_was_lost(run, seeds):
    findings = 0
    for seed in seeds:
        world = run(seed, loses=True)
        assert seam_world.stored_versions() == world.wanted(), f"seed {seed}"
        assert seam_world.author_state() == (LIVE, world.repo.rev), f"seed {seed}"
        assert open_gaps(9) == [], f"seed {seed}"
        findings += found()
    assert findings >= len(seeds) / 2


def test_whatever_the_stream_lost_is_found_by_looking_on_sqlite(sqlite, run):
    assert_looks_find_what_was_lost(run, range(50))


def test_whatever_the_stream_lost_is_found_by_looking_on_postgresql(postgresql, run):
    assert_looks_find_what_was_lost(run, range(1000, 1012))


def test_a_stream_that_is_late_and_loses_nothing_is_never_suspected_in_the_end(sqlite, run):
    looks = 0
    for seed in range(50):
        world = run(seed, loses=False)
        assert found() == 0, f"seed {seed}"
        looks += world.looks
    assert looks > 50


def test_records_that_a_stream_without_a_chain_lost_are_found_by_listing(sqlite, run):
    findings = 0
    for seed in range(50):
        world = run(seed, loses=True, carries_chain=False)
        stored = seam_world.stored_versions()
        # That a post was edited does not show in a listing of keys.
        assert stored.keys() == world.wanted().keys(), f"seed {seed}"
        findings += found()
    assert findings > 10


def assert_looks_find_what_was_lost_between_sources(run, seeds):
    findings = 0
    for seed in seeds:
        world = run(seed, HoppingWorld)
        stored = seam_world.stored_versions()
        assert stored.keys() == world.wanted().keys(), f"seed {seed}"
        findings += found()
    assert findings > len(seeds) / 6


def test_records_that_were_lost_between_sources_are_found_on_sqlite(sqlite, run):
    assert_looks_find_what_was_lost_between_sources(run, range(30))


def test_records_that_were_lost_between_sources_are_found_on_postgresql(postgresql, run):
    assert_looks_find_what_was_lost_between_sources(run, range(1000, 1012))
