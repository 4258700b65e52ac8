"""Whatever happens in whatever order, and however late the replica is: pages are those of now."""

import random
import threading

import pytest

from feeds import FEEDS
from server.storage import replica, wal
from server.storage.database import database, value
from server.storage.timeline import timeline_page
from tests.builders import number_of
from tests.storage.following_page import COUNT, add_row
from tests.storage.timeline_world import VIEWER, TimelineWorld


@pytest.fixture(autouse=True)
def restless(monkeypatch):
    """A replica that could not give one page is asked again for the next."""
    monkeypatch.setattr(replica, "REST_OF_LAG_SECONDS", (0.0, 0.0))


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))]
)
def test_every_page_is_what_the_primary_would_have_given(seed, reading, streaming, monkeypatch):
    monkeypatch.setattr(wal, "MAX_LAG_SECONDS", 0.02)
    rng = random.Random(seed)  # noqa: S311  the same worlds in every run
    world = TimelineWorld(seed)
    now_us = world.world.now_ms * 1000
    is_paused = False
    try:
        for _ in range(30):
            if rng.random() < 0.3:
                is_paused = not is_paused
                word = "pause" if is_paused else "resume"
                streaming.replica.ask(f"SELECT pg_wal_replay_{word}()")
            if rng.random() < 0.7:
                world.deed()
            read_whole(world, rng.choice(FEEDS), rng.choice((2, 7, 30)), reading, now_us)
    finally:
        streaming.replica.ask("SELECT pg_wal_replay_resume()")
    assert min(reading.places["replica"], reading.places["primary"]) > 0


def read_whole(world, feed, limit, reading, now_us):
    """All pages of a feed, each read wherever it can be; joined they are the feed of now."""
    found, beyond, has_more = [], None, True
    while has_more:

        def page(beyond=beyond):
            up = feed.oldest_first
            viewer = number_of(VIEWER)
            return timeline_page(viewer, feed.filter, beyond, limit, now_us, oldest_first=up)

        part = reading.read(page)
        found += part.items
        has_more, beyond = part.has_more, found[-1].key if found else None
    assert found == world.feed(feed)


class Counting:
    """A writer, readers, and a replica that stops and goes on at any moment; each a thread."""

    def __init__(self, reading, standby):
        self.reading, self.standby = reading, standby
        self.committed = 0
        self.stop = threading.Event()
        self.wrong = []

    def write(self):
        for _ in range(400):
            add_row()
            self.committed += 1

    def hold_up(self):
        while not self.stop.wait(0.02):
            self.standby.ask("SELECT pg_wal_replay_pause()")
            self.stop.wait(0.03)
            self.standby.ask("SELECT pg_wal_replay_resume()")

    def read(self):
        last = 0
        while not self.stop.is_set():
            before = self.committed
            found = self.reading.read(lambda: value(COUNT))
            if found < max(before, last):
                self.wrong.append((before, last, found))
            last = found

    def run(self):
        bodies = (self.write, self.hold_up, self.read, self.read, self.read)
        threads = [threading.Thread(target=self._guarded, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        threads[0].join(60)
        self.stop.set()
        for thread in threads:
            thread.join(10)

    def _guarded(self, body):
        try:
            body()
        finally:
            database.close()


def test_what_was_committed_before_a_page_was_asked_for_is_on_it(reading, streaming, monkeypatch):
    monkeypatch.setattr(wal, "MAX_LAG_SECONDS", 0.02)
    counting = Counting(reading, streaming.replica)
    counting.run()
    assert counting.committed == 400
    assert counting.wrong == []
    assert reading.places["replica"] > 0
