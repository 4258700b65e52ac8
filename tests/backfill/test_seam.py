"""A backfill leaves no seam: whatever happens when, the rows end up as the repo is."""

import pytest

from server.backfill import author, pds, sources
from server.core.syntax import FOLLOW
from server.storage import departures, repos, viewers
from server.storage.authors import author_id
from server.storage.batch import RepoCommit
from server.storage.database import database, execute, value
from server.storage.gaps import open_gaps
from server.storage.repos import LIVE
from tests.backfill import seam_world
from tests.backfill.seam_world import AUTHOR, FIRST_RECORDS, PAGE_RECORDS, SeamWorld
from tests.builders import NOW_US, tid

DAY_MS = 86_400_000
YOUNG_KEYS = [tid(-n) for n in range(5)] + ["self", "3odd.key"]
# Some of these are older than the horizon: a backfill has no reason to look for them.
MIXED_KEYS = [tid(-n * DAY_MS // 2) for n in range(9)] + ["self", "-"]


@pytest.fixture
def run(monkeypatch):
    """Run a world to its end; between two transactions of a backfill anything may happen too."""
    monkeypatch.setattr(pds, "PAGE_RECORDS", PAGE_RECORDS)
    monkeypatch.setattr(pds, "FIRST_RECORDS", FIRST_RECORDS)
    monkeypatch.setattr(author, "_now_us", lambda: NOW_US)
    worlds = []

    def interrupted(write):
        def write_later(*args, **kwargs):
            if not database.in_transaction():
                worlds[-1].perhaps()
            return write(*args, **kwargs)

        return write_later

    monkeypatch.setattr(sources, "commit_group", interrupted(sources.commit_group))

    def run_world(seed, rkeys, backfill_days, kind=SeamWorld):
        worlds[:] = [kind(seed, rkeys, backfill_days)]
        worlds[-1].run()
        return worlds[-1]

    return run_world


def assert_at_rest(world, where):
    assert seam_world.author_state() == (LIVE, world.repo.rev), where
    assert [gap for gap in open_gaps(100) if gap.did == AUTHOR] == [], where
    assert value("SELECT count(*) FROM tombstones WHERE is_alive = 1") == 0, where


def assert_no_seam(run, seeds):
    for seed in seeds:
        world = run(seed, YOUNG_KEYS, 3650)
        assert seam_world.stored_versions() == world.wanted(), f"seed {seed}"
        assert_at_rest(world, f"seed {seed}")


def test_any_interleaving_ends_with_the_rows_that_the_repo_has_on_sqlite(sqlite, run):
    assert_no_seam(run, range(250))


def test_any_interleaving_ends_with_the_rows_that_the_repo_has_on_postgresql(postgresql, run):
    assert_no_seam(run, range(1000, 1025))


@pytest.mark.slow
def test_thousands_of_interleavings_end_with_the_rows_that_the_repo_has(sqlite, run):
    assert_no_seam(run, range(2000, 5000))


class Leaving(SeamWorld):
    """The author is a viewer who is let go, a slice at a time, and comes back at any moment."""

    def __init__(self, seed, rkeys, backfill_days):
        super().__init__(seed, rkeys, backfill_days)
        self.wants = repos.ITEMS | repos.FOLLOWS
        self.come_back()
        self.steps = 50
        self.more = (self.leave, *[self.slice] * 6, self.come_back)
        self.departures = 0

    def leave(self):
        number = author_id(AUTHOR)
        if departures.part_with_viewer(number, NOW_US + 1, self.epoch, NOW_US):
            execute("UPDATE departures SET due_us = 0")

    def slice(self):
        for number in departures.due(NOW_US, 1):
            self.departures += departures.depart(number, self.epoch, NOW_US)

    def come_back(self):
        viewers.welcome(AUTHOR, NOW_US)

    def settle(self):
        self.come_back()
        super().settle()


def test_who_is_let_go_and_comes_back_at_any_moment_is_whole_again(sqlite, run, monkeypatch):
    monkeypatch.setattr(departures, "SLICE_ROWS", 1)
    # Also in the middle of a backfill, which is not how it is, but must do no harm.
    monkeypatch.setattr(departures, "FAILED_ATTEMPTS", 0)
    slices = 0
    for seed in range(50):
        world = run(seed, YOUNG_KEYS, 3650, Leaving)
        assert seam_world.stored_versions() == world.wanted(), f"seed {seed}"
        assert_at_rest(world, f"seed {seed}")
        slices += world.departures
    assert slices > 100


class PuttingBack(SeamWorld):
    """The repo may be put back to an earlier state, which a #sync tells, in its place."""

    def __init__(self, seed, rkeys, backfill_days):
        self.states, self.undone = [], 0
        super().__init__(seed, rkeys, backfill_days)
        self.steps = 50
        self.more = (self.put_back, self.put_back)

    def commit(self):
        super().commit()
        self.states.append((self.repo.rev, dict(self.repo.records)))

    def put_back(self):
        del self.states[self.rng.randrange(len(self.states)) + 1 :]
        self.repo.rev, records = self.states[-1]
        self.repo.records = dict(records)
        self.waiting.append((self.repo.rev, self.repo.last_rev))

    def tell(self, batch, one):
        if isinstance(one, RepoCommit):
            super().tell(batch, one)
            return
        batch.add_sync(AUTHOR)
        part = [part for part in batch.parts() if AUTHOR in part.resets][-1]
        part.put_back[AUTHOR] = one
        self.undone += 1

    def settle(self):
        super().settle()
        self.put_back()
        self.come_to_rest()

    def lose(self):
        if self.waiting and isinstance(self.waiting[0], RepoCommit):
            super().lose()


def test_a_repo_that_is_put_back_at_any_moment_is_as_its_pds_has_it(sqlite, run):
    undone = 0
    for seed in range(150):
        world = run(seed, YOUNG_KEYS, 3650, PuttingBack)
        assert seam_world.stored_versions() == world.wanted(), f"seed {seed}"
        assert_at_rest(world, f"seed {seed}")
        undone += world.undone
    assert undone > 300


def test_above_the_horizon_nothing_is_missing_and_below_it_nothing_is_wrong(sqlite, run):
    for seed in range(100):
        world = run(seed, MIXED_KEYS, 1)
        stored, least = seam_world.stored_versions(), seam_world.horizon()
        assert stored.items() <= world.wanted().items(), f"seed {seed}"
        missing = [path for path in world.wanted() if path not in stored]
        assert [p for p in missing if p[1] >= least or p[0] == FOLLOW] == [], f"seed {seed}"
        assert_at_rest(world, f"seed {seed}")
