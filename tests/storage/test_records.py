"""Where the row of a record is: every one is found, in whatever crowd, and none is there twice."""

import random
from importlib import import_module

import pytest

from server.core.projection import KEY_TIE_BITS, SaveItem
from server.core.syntax import POST, REPOST, int_to_tid
from server.storage import items, records
from server.storage.database import DatabaseError, current, rows, write_transaction
from server.storage.many_rows import insert_rows
from server.storage.record_spans import NEAR_MS, SPAN_MS
from tests.builders import NOW_MS, number_of, raw_cid, track

AUTHORS = ("ann", "bob", "crowd")
DAY_MS = 86_400_000
# Keys that are no TIDs, and what is said about the year 1970 or beyond any year of ours.
ODD = ["self", "odd one", "3333"]
FARTHEST = 2**63 - 1


class World:
    """Records that come, change and go, and what a second look at the whole table says of them."""

    def __init__(self, seed):
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        for name in AUTHORS:
            track(name)
        self.authors = [number_of(name) for name in AUTHORS]
        self.keys = {}

    def step(self):
        """Save some records of all authors, known ones and new ones; and drop a few."""
        saves = {}
        for _ in range(self.rng.randrange(1, 9)):
            author = self.rng.choice(self.authors)
            collection = self.rng.choice((POST, REPOST))
            rkey = self.rng.choice([self._tid(author), self._tid(author), *ODD])
            if self.keys and self.rng.random() < 0.3:
                author, collection, rkey = self.rng.choice(list(self.keys))
            saves[author, collection, rkey] = self._item(collection, rkey, author)
        self.keys |= saves
        with write_transaction():
            names = items.name(saves.values(), [])
            numbers = {
                (author, names.rkeys[rkey], items.COLLECTIONS[collection]): item
                for (author, collection, rkey), item in saves.items()
            }
            items.save_items(numbers, names)
        if self.rng.random() < 0.5:
            gone = self.rng.sample(list(self.keys), min(3, len(self.keys)))
            for key in gone:
                del self.keys[key]
            with write_transaction():
                names = items.name((SaveItem(c, r, 0, 0, 0, 0, None, None) for _, c, r in gone), [])
                assert items.drop_items(
                    [(a, names.rkeys[r], items.COLLECTIONS[c]) for a, c, r in gone]
                ) == len(gone)

    def _tid(self, author):
        ms = self.rng.choice([NOW_MS, NOW_MS, NOW_MS, NOW_MS - DAY_MS, 1_000, 2**42])
        # The crowd stands within a minute.
        ms += self.rng.randrange(60_000 if author == self.authors[2] else DAY_MS)
        return int_to_tid(min((ms * 1000) << 10 | self.rng.getrandbits(10), FARTHEST))

    def _item(self, collection, rkey, author):
        tid_ms = NOW_MS if rkey in ODD else (items.encode_rkeys([rkey])[rkey] >> 10) // 1000
        off = self.rng.choice([0, 1, NEAR_MS - 1, NEAR_MS, NEAR_MS + 1, SPAN_MS, DAY_MS])
        ms = min(max(tid_ms + self.rng.choice((-1, 1)) * off, 0), 2**42 - 1)
        if author == self.authors[2]:
            ms = NOW_MS + self.rng.randrange(60_000)
        seen = ms - self.rng.choice((0, 0, 1, SPAN_MS))
        tie = int.from_bytes(raw_cid(self.rng.random())[4:7]) & 0x3FFFF
        return SaveItem(collection, rkey, ms, max(min(ms, seen), 0), tie, 0, None, None)


def everything():
    """All rows by author, rkey and collection: none twice."""
    found = rows(f"SELECT {', '.join(records.COLUMNS)} FROM feed_items")  # noqa: S608
    by_key = {records.key_of_row(row): tuple(row) for row in found}
    assert len(by_key) == len(found)
    return by_key


def posts_by_sql(keys):
    """What the two SELECTs of a page find of these keys, each at most once."""
    found = {}
    for author, rkey in keys:
        both = [
            row
            for sql in records.post_sql("{p}.id", str(author), f"CAST({rkey} AS BIGINT)")
            for row in current().execute_sql(sql).fetchall()
        ]
        if both:
            assert len(set(both)) == 1
            found[author, rkey] = both[0][0]
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crowd", [5, records.CROWD])
def test_every_record_is_found_by_its_key_and_no_other(db, monkeypatch, seed, crowd):
    monkeypatch.setattr(records, "CROWD", crowd)
    world = World(seed)
    for _ in range(40):
        world.step()
    held = everything()
    texts = items.encode_rkeys({rkey for _, _, rkey in world.keys})
    assert held.keys() == {(a, texts[r], items.COLLECTIONS[c]) for a, c, r in world.keys}
    absent = {(author, rkey + 1, number) for author, rkey, number in held} - held.keys()
    assert {k: tuple(row) for k, row in records.find({*held, *absent}).items()} == held
    posts = {(author, rkey): row[0] for (author, rkey, number), row in held.items() if number == 0}
    assert posts_by_sql({key[:2] for key in (*held, *absent)}) == posts
    crowded = {number for (number,) in rows("SELECT author_id FROM crowded_authors")}
    assert (world.authors[2] in crowded) == (crowd == 5)
    for row in held.values():
        assert bool((row[3] or 0) & records.CROWDED) == (row[1] in crowded)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crowd", [5, records.CROWD])
def test_records_between_two_keys_are_found(db, monkeypatch, seed, crowd):
    monkeypatch.setattr(records, "CROWD", crowd)
    world = World(seed)
    for _ in range(40):
        world.step()
    held = everything()
    edges = sorted(rkey for _, rkey, _ in held)
    for _ in range(40):
        low, high = sorted(world.rng.choice(edges) + world.rng.choice((-1, 0, 1)) for _ in "ab")
        high = min(high, FARTHEST)
        wanted = [(author, number, low, high) for author in world.authors for number in (0, 1)]
        between = {key for key in held if low <= key[1] <= high}
        assert records.in_ranges(wanted) >= between
        # What it finds beside them is the caller's to pass over, and is of the same author.
        assert records.in_ranges(wanted[:1]) >= {k for k in between if k[::2] == wanted[0][:2]}
        assert records.in_ranges(wanted) <= held.keys()
        from_here = max(low, 0)
        for author, number, *_ in wanted:
            expected = {
                (rkey, row[0])
                for (who, rkey, kind), row in held.items()
                if (who, kind) == (author, number) and rkey >= from_here
            }
            found = records.from_key_on(author, number, from_here)
            assert set(found) == expected
            assert len(found) == len(expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_least_key_is_the_least(db, monkeypatch, seed):
    monkeypatch.setattr(records, "CROWD", 5)
    world = World(seed)
    for _ in range(12):
        world.step()
        expected = {}
        for author, rkey, number in everything():
            if rkey >= 0:
                key = author, number
                expected[key] = min(rkey, expected.get(key, rkey))
        found = {(a, n): rkey for a, n, rkey in records.least_rkeys(world.authors)}
        assert found == expected


def test_nobody_has_more_rows_around_one_time_than_a_look_reads(db, monkeypatch):
    """Or a page would take a post for missing: it reads no more of them (records.post_sql)."""
    monkeypatch.setattr(records, "CROWD", 5)
    world = World(7)
    for _ in range(60):
        world.step()
    crowded = {number for (number,) in rows("SELECT author_id FROM crowded_authors")}
    assert crowded
    for author in set(world.authors) - crowded:
        times = sorted(row[0] >> KEY_TIE_BITS for row in everything().values() if row[1] == author)
        for first in times:
            assert sum(first <= ms <= first + 2 * NEAR_MS for ms in times) <= 5


def test_a_crowd_is_found_and_not_looked_through(db, monkeypatch):
    """More within a minute than a look reads, and most of them with keys of other days."""
    track("ann")
    author = number_of("ann")
    count = records.CROWD + 200
    saves = {}
    for n in range(count):
        key_ms = NOW_MS + n if n % 100 == 0 else NOW_MS - DAY_MS * (n % 50 + 1) + n
        rkey = key_ms * 1000 << 10
        item = SaveItem(POST, int_to_tid(rkey), NOW_MS + n, NOW_MS + n, 0, 0, None, None)
        saves[author, rkey, 0] = item
    keys = list(saves)
    for first in range(0, count, 100):
        with write_transaction():
            part = {key: saves[key] for key in keys[first : first + 100]}
            items.save_items(part, items.Names({}, {}))
    assert rows("SELECT author_id FROM crowded_authors") == [(author,)]
    places = {key[:2]: row[0] for key, row in everything().items()}
    assert posts_by_sql(key[:2] for key in keys) == places
    looked = []
    joined = records.rows_joined
    monkeypatch.setattr(
        records, "rows_joined", lambda *args: looked.append(args[3:]) or joined(*args)
    )
    assert len(records.find(keys)) == count
    # Nothing was looked for by its time.
    assert looked[0] == ([],)
    assert [row[0] for row in looked[1][0]] == [author] * count
    looked.clear()
    assert len(records.in_ranges([(author, 0, 0, FARTHEST)])) == count
    assert looked[0] == ([],)


@pytest.mark.by_hand
def test_what_stands_apart_has_no_second_row(db):
    row = (NOW_MS << KEY_TIE_BITS, 1, -1, None)
    head = "INSERT INTO feed_items (id, author_id, rkey, flags)"
    insert_rows(head, [row, (row[0] + 1, 1, -1, 0)])
    with pytest.raises(DatabaseError, match="feed_items_apart"):
        insert_rows(head, [(row[0] + 2, *row[1:])])


def test_the_index_of_what_stands_apart_is_as_the_conditions_have_it():
    """Word for word, or SQLite does not take it."""
    steps = import_module("migrations.0005_fewer_bytes").INDEXES
    index = " ".join(next(step for step in steps if "_apart" in step).split())
    kind, is_apart = records.KIND.format(i=""), records.IS_APART.format(i="")
    assert f"ON {{table}} (author_id, ({kind}), rkey) WHERE {is_apart}" in index


def test_a_lesser_key_may_stand_later_by_twice_what_is_near(db):
    track("ann")
    author = number_of("ann")
    first, second = _saved(author, NOW_MS + NEAR_MS, NOW_MS), _saved(author, NOW_MS + 1, NOW_MS + 1)
    later = _saved(author, NOW_MS + NEAR_MS - 500, NOW_MS + 2 * NEAR_MS - 500)
    assert records.least_rkeys([author]) == [(author, 0, second)]
    with write_transaction():
        items.drop_items([(author, second, 0)])
    assert records.least_rkeys([author]) == [(author, 0, later)]
    assert later < first


def test_what_is_near_a_key_at_the_edge_is_found_from_it_on(db):
    track("ann")
    author = number_of("ann")
    edge = _saved(author, NOW_MS, NOW_MS - NEAR_MS)
    assert [rkey for rkey, _ in records.from_key_on(author, 0, edge)] == [edge]
    assert records.in_ranges([(author, 0, edge, edge)]) == {(author, edge, 0)}
    edge = _saved(author, NOW_MS + 1, NOW_MS + 1 + NEAR_MS)
    assert records.in_ranges([(author, 0, edge, edge)]) == {(author, edge, 0)}


def _saved(author, tid_ms, at_ms):
    rkey = tid_ms * 1000 << 10
    item = SaveItem(POST, int_to_tid(rkey), at_ms, at_ms, 0, 0, None, None)
    with write_transaction():
        items.save_items({(author, rkey, 0): item}, items.Names({}, {}))
    return rkey


@pytest.mark.parametrize("pace_ms", [1_000, 150])
def test_who_is_busy_is_no_crowd_however_often_their_records_are_listed(db, pace_ms):
    """Only who has more than CROWD within a minute has one: rows that are there count once."""
    track("ann")
    author = number_of("ann")
    keys = [NOW_MS + n * pace_ms for n in range(2 * records.CROWD)]
    for first in (*range(0, len(keys), 100), 0, 100):
        saves = {}
        for ms in keys[first : first + 100]:
            rkey = ms * 1000 << 10
            saves[author, rkey, 0] = SaveItem(POST, int_to_tid(rkey), ms, ms, 0, 0, None, None)
        with write_transaction():
            items.save_items(saves, items.Names({}, {}))
    is_crowd = 60_000 // pace_ms > records.CROWD
    assert rows("SELECT author_id FROM crowded_authors") == ([(author,)] if is_crowd else [])
