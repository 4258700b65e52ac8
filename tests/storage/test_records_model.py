"""Whatever is said of records, and whoever goes and comes back: the rows are those of a dict."""

import random

import pytest

from server.core.projection import KEY_TIE_BITS, MEDIA, DropRecord, RecordRef, SaveItem, sort_key
from server.core.syntax import POST, REPOST, int_to_tid, is_tid, tid_to_int
from server.storage import departures, records, retention
from server.storage.batch import Batch
from server.storage.database import rows
from server.storage.forget import forget
from server.storage.items import COLLECTIONS
from server.storage.record_spans import NEAR_MS, SPAN_MS
from server.storage.rkeys import decode_rkeys
from tests.builders import NOW_MS, NOW_US, Stream, did, make_live, number_of, track

DAY_MS = 86_400_000
LAST_MS = 2**42 - 2
NAMES = ("ann", "bob", "cat")
# No TIDs: as short and as long as keys can be, and one with a first letter that no TID has.
ODD = ["self", "x", "y" * 512, "z222222222222"]


class World:
    """Authors, what their repos hold by what was said, and the stream that says it."""

    def __init__(self, seed, epoch):
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        self.epoch = epoch
        self.stream = Stream(epoch)
        # By author, collection and key: place, what it is tied by, and what else a row says.
        self.held = {}
        self.said = []
        track(*NAMES)
        make_live(*NAMES, epoch=epoch)

    def say(self):
        """A batch of some commits."""
        names = [self.rng.choice(NAMES) for _ in range(self.rng.randrange(1, 4))]
        batch = Batch()
        saved, before = {}, dict(self.held)
        for name in names:
            changes = [self._change(name) for _ in range(self.rng.randrange(1, 9))]
            batch.add_commit(self.stream.next(name, *changes))
            for change in changes:
                self._apply((name, change.collection, change.rkey), change, before, saved)
        self.said.append(batch)
        self.stream.save(batch)

    def say_again(self):
        """What was said already changes nothing."""
        if self.said:
            self.stream.save(self.rng.choice(self.said[-5:]))

    def trim(self):
        """Old items of somebody go, but for the newest."""
        name = self.rng.choice(NAMES)
        before_ms = self.rng.choice([NOW_MS, NOW_MS - DAY_MS // 2, NOW_MS + DAY_MS, 2])
        theirs = sorted(row[0] for key, row in everything().items() if key[0] == name)
        kept = {*theirs[-retention.KEPT_ITEMS :]}
        kept |= {place for place in theirs if place >= before_ms << KEY_TIE_BITS}
        for key, row in everything().items():
            if key[0] == name and row[0] not in kept:
                del self.held[key]
        retention.trim(number_of(name), before_ms)

    def go(self):
        """Somebody is deleted, let go or forgotten, and comes back."""
        name = self.rng.choice(NAMES)
        self.rng.choice([self._purge, self._forget, self._depart])(name)
        for key in [key for key in self.held if key[0] == name]:
            del self.held[key]
        self.said.clear()

    def _purge(self, name):
        self.stream.save(Batch(statuses={did(name): (False, "deleted")}))
        while departures.purge(number_of(name), self.epoch):
            pass
        self.stream.save(Batch(statuses={did(name): (True, None)}))
        make_live(name, epoch=self.epoch, rev=self.stream.revs.get(name, 0))

    def _forget(self, name):
        forget(did(name))
        self._come_back(name)

    def _depart(self, name):
        number, later = number_of(name), NOW_US + 2 * departures.LONELY_US
        departures.note_lonely(0, 100, NOW_US)
        while departures.depart(number, self.epoch, later):
            pass
        self._come_back(name)

    def _come_back(self, name):
        track(name)
        make_live(name, epoch=self.epoch, rev=self.stream.revs.get(name, 0))

    def _change(self, name):
        rng = self.rng
        theirs = [key for key in self.held if key[0] == name]
        if theirs and rng.random() < 0.5:
            _, collection, rkey = rng.choice(theirs)
        else:
            collection = rng.choice((POST, REPOST))
            rkey = rng.choice([*ODD, *(int_to_tid(self._tid(name)) for _ in range(12))])
        if rng.random() < 0.25:
            return DropRecord(collection, rkey)
        ms = NOW_MS + rng.randrange(DAY_MS)
        if is_tid(rkey):
            off = rng.choice([0, 0, 0, 1, NEAR_MS - 1, NEAR_MS, NEAR_MS + 1, SPAN_MS, DAY_MS])
            ms = (tid_to_int(rkey) >> 10) // 1000 + rng.choice((-1, 1)) * off
        created_ms = min(max(ms, 0), LAST_MS)
        seen_ms = max(created_ms - rng.choice((0, 0, 1, SPAN_MS, -DAY_MS)), 0)
        ref = RecordRef(did("zoe"), int_to_tid(rng.randrange(3)))
        subject = ref if collection == REPOST or rng.random() < 0.3 else None
        flags = rng.choice((0, MEDIA)) if collection == POST else 0
        tie = rng.choice([0, rng.randrange(2**18)])
        sort_ms = min(created_ms, seen_ms)
        return SaveItem(collection, rkey, created_ms, sort_ms, tie, flags, subject, None)

    def _tid(self, name):
        ms = self.rng.choice([NOW_MS, NOW_MS, NOW_MS, NOW_MS - DAY_MS, 0, LAST_MS, 2**43 - 10])
        # Cat's stand within two minutes.
        ms += self.rng.choice([0, self.rng.randrange(120_000 if name == "cat" else DAY_MS)])
        return min(ms * 1000 << 10 | self.rng.choice([0, 1023]), 2**63 - 1)

    def _apply(self, key, change, before, saved):
        """What one change does after the others of its batch."""
        if isinstance(change, DropRecord):
            self.held.pop(key, None)
            before.pop(key, None)
            saved.pop(key, None)
            return
        created_ms, sort_ms = change.created_ms, change.sort_ms
        if key in saved:
            created_ms = min(saved[key][0], created_ms)
            sort_ms = min(saved[key][1], change.created_ms)
        saved[key] = created_ms, sort_ms
        old = before.get(key)
        place = (sort_ms, change.tie) if old is None else old[0]
        if old is not None and created_ms < old[0][0]:
            place = created_ms, change.tie
        self.held[key] = place, change.flags, change.subject


def everything():
    """All rows by name, collection and key: none twice."""
    found = rows(f"SELECT {', '.join(records.COLUMNS)} FROM feed_items")  # noqa: S608
    texts = decode_rkeys({row[2] for row in found})
    names = {number_of(name): name for name in NAMES}
    collections = {number: name for name, number in COLLECTIONS.items()}
    held = {}
    for row in found:
        author, rkey, number = records.key_of_row(row)
        key = names[author], collections[number], texts[rkey]
        assert key not in held
        held[key] = tuple(row)
    return held


def check(world):
    """The rows are those of the dict, each found by its key, and marked if their author is."""
    held = everything()
    assert held.keys() == world.held.keys()
    crowded = {number for (number,) in rows("SELECT author_id FROM crowded_authors")}
    for key, ((ms, tie), content, subject) in world.held.items():
        row = held[key]
        assert 0 <= row[0] - sort_key(ms, tie) < 200
        assert bool((row[3] or 0) & records.CROWDED) == (row[1] in crowded)
        assert (row[3] or 0) & 7 == content
        assert row[4] == (None if subject is None else number_of("zoe"))
    by_key = {records.key_of_row(row): row for row in held.values()}
    assert {key: tuple(row) for key, row in records.find(by_key).items()} == by_key


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("crowd", [4, records.CROWD])
def test_whatever_is_said_and_whoever_comes_and_goes_the_rows_are_a_dicts(
    db, lease, monkeypatch, seed, crowd
):
    monkeypatch.setattr(records, "CROWD", crowd)
    monkeypatch.setattr(records, "FEW", 2)
    monkeypatch.setattr(retention, "KEPT_ITEMS", 5)
    monkeypatch.setattr(retention, "SLICE_ITEMS", 4)
    monkeypatch.setattr(departures, "SLICE_ROWS", 4)
    world = World(seed, lease.epoch)
    steps = [world.say] * 20 + [world.say_again] * 3 + [world.trim] * 2 + [world.go]
    for _ in range(60):
        step = world.rng.choice(steps)
        step()
        check(world)
