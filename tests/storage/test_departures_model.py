"""People come, stay away, follow, unfollow, in any order: who is needed is tracked, nobody else."""

import random

from server.core.syntax import FOLLOW
from server.ingest.tracked import TrackedSet
from server.storage import departures, jobs, repos, viewers
from server.storage.database import value
from server.storage.page_rows import Page
from tests.builders import (
    NOW_US,
    Stream,
    commit_page,
    confirm_all,
    did,
    finish,
    follow,
    new_epoch,
    post,
    store_snapshot,
    tid,
    unfollow,
    wipe,
)
from tests.storage.needed import rows_of, state_of

DAY_US = departures.LONELY_US


class Crowd:
    """People who come, stay away, follow and unfollow; what is true, beside what we do."""

    VIEWERS = ("vera", "will", "both")
    AUTHORS = ("ann", "ben", "both", "dan")

    def __init__(self, seed):
        wipe()
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        self.epoch = new_epoch()
        self.stream = Stream(self.epoch)
        # A repo is made by its first commit.
        self.stream.revs = dict.fromkeys((*self.VIEWERS, *self.AUTHORS), 1)
        self.reader = TrackedSet()
        self.follows = {name: {} for name in self.VIEWERS}
        self.here = set()
        self.now_us = NOW_US
        self.keys = 0

    def run(self, steps):
        doing = (self.come, self.leave, self.follow, self.unfollow, self.pass_on, self.fetch)
        for _ in range(steps):
            self.rng.choice((*doing, self.slice, self.slice, self.slice, self.read))()

    def come(self):
        name = self.rng.choice(self.VIEWERS)
        viewers.welcome(did(name), self.now_us)
        self.here.add(name)

    def leave(self):
        for number in viewers.gone_since(self.now_us - 2 * DAY_US, 9):
            departures.part_with_viewer(number, self.now_us - 2 * DAY_US, self.epoch, self.now_us)
        self.here = {name for name in self.VIEWERS if viewers.find(did(name))}

    def follow(self):
        name, self.keys = self.rng.choice(self.VIEWERS), self.keys + 1
        self.follows[name][tid(self.keys)] = of = self.rng.choice(self.AUTHORS)
        self.stream.say(name, follow(tid(self.keys), of))

    def unfollow(self):
        name = self.rng.choice(self.VIEWERS)
        if self.follows[name]:
            rkey = self.rng.choice(list(self.follows[name]))
            del self.follows[name][rkey]
            self.stream.say(name, unfollow(rkey))

    def pass_on(self):
        self.now_us += self.rng.choice((DAY_US // 3, DAY_US))
        departures.note_lonely(0, 99, self.now_us)

    def slice(self):
        for number in departures.due(self.now_us, 1):
            departures.depart(number, self.epoch, self.now_us)

    def read(self):
        self.reader.refresh()

    def fetch(self):
        """The next job, as the backfill does it: follows from the truth, and a post each."""
        confirm_all(self.epoch)
        for job in jobs.due(2 * self.now_us, 1, ()):
            name = next(n for n in (*self.VIEWERS, *self.AUTHORS) if did(n) == job.did)
            store_snapshot(job, self.stream.revs[name], self.epoch)
            if job.wants & repos.FOLLOWS:
                listed = [follow(rkey, of) for rkey, of in self.follows[name].items()]
                page = Page(FOLLOW, listed, {one.rkey for one in listed}, None, None)
                commit_page(job, page, self.epoch, self.now_us)
            page = Page("app.bsky.feed.post", [post(tid(0))], {tid(0)}, None, None)
            commit_page(job, page, self.epoch, self.now_us, priority=1)
            finish(job, 0, self.epoch, self.now_us)

    def settle(self):
        for _ in range(4):
            for _ in range(30):
                self.fetch()
            self.now_us += DAY_US
            departures.note_lonely(0, 99, self.now_us)
            for _ in range(60):
                self.slice()
        self.reader.refresh()

    def check(self, where):
        followed = {of for name in self.here for of in self.follows[name].values()}
        for name in {*self.VIEWERS, *self.AUTHORS}:
            wants = repos.ITEMS | (repos.FOLLOWS if name in self.here else 0)
            if name in followed | self.here:
                assert state_of(name) == (repos.LIVE, wants), f"{where}: {name} is needed"
                assert self.reader.wants[did(name)] == wants, f"{where}: {name}"
                assert rows_of(name) > 0, f"{where}: {name}"
            else:
                assert (state_of(name) or (0,))[0] == repos.LET_GO, f"{where}: {name} is not needed"
                assert rows_of(name) == 0, f"{where}: {name}"
                assert did(name) not in self.reader.wants, f"{where}: {name}"
        assert value("SELECT count(*) FROM departures") == 0, where


def assert_the_needed_stay(seeds):
    for seed in seeds:
        crowd = Crowd(seed)
        crowd.run(60)
        crowd.settle()
        crowd.check(f"seed {seed}")


def test_whoever_comes_and_goes_the_needed_are_tracked_and_nobody_else(sqlite, monkeypatch):
    monkeypatch.setattr(departures, "SLICE_ROWS", 1)
    assert_the_needed_stay(range(50))


def test_the_same_on_postgresql(postgresql, monkeypatch):
    monkeypatch.setattr(departures, "SLICE_ROWS", 1)
    assert_the_needed_stay(range(1000, 1012))
