"""Collections as PDSes list them: downwards, upwards, or by nothing that we know."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backfill import listing as listing_module
from server.backfill.listing import Listing
from server.core.errors import FetchFailed, TooLarge
from server.core.syntax import POST, int_to_tid
from tests.builders import did, iso
from tests.fuzzing import fuzz

ALICE = did("alice")
NOW_US = time.time_ns() // 1000
DAY_US = 86_400_000_000
MANNERS = ["official", "own cursor", "upwards", "upwards by key", "upwards by number", "shuffled"]


def key_of_age(days, number=0):
    return int_to_tid((NOW_US - int(days * DAY_US) + number) << 10)


def ordered(keys, manner):
    """Keys with the cursor after each, in the order of such a PDS."""
    if manner == "official":
        return [(key, key) for key in sorted(keys, reverse=True)]
    if manner == "own cursor":
        return [(f"c{key[::-1]}", key) for key in sorted(keys, reverse=True)]
    if manner == "shuffled":
        return [(f"s{key[::-1]}", key) for key in sorted(keys, key=lambda key: key[::-1])]
    names = {"upwards": f"{POST}/{{}}", "upwards by key": "{}", "upwards by number": "n{}x"}
    return [(names[manner].format(key), key) for key in sorted(keys)]


class Peer:
    """A fetcher behind which a PDS lists in some manner."""

    def __init__(self, keys, manner):
        self.places, self.manner, self.asked = ordered(keys, manner), manner, 0

    def get_json(self, _url, params, *, deadline_s, max_bytes, parse):
        assert deadline_s
        assert max_bytes
        self.asked += 1
        places, cursor = self.places, params.get("cursor")
        if cursor is not None and self.manner in ("upwards", "upwards by key"):
            # Where a walk begins: the record that is named comes again.
            is_there = self.manner != "upwards" or cursor.startswith(POST)
            places = [place for place in places if is_there and place[0] >= cursor]
        elif cursor is not None:
            known = [name for name, _ in places]
            places = places[known.index(cursor) + 1 :] if cursor in known else []
        page = places[: int(params["limit"])]
        answer = {"records": [self.entry(key) for _, key in page]}
        is_official = self.manner == "official"
        if page and (is_official or len(page) == int(params["limit"])):
            answer["cursor"] = page[-1][0]
        return answer

    def entry(self, key):
        value = {"$type": POST, "text": key, "createdAt": iso(NOW_US // 1000)}
        return {"uri": f"at://{ALICE}/{POST}/{key}", "cid": "?", "value": value}


def read_down(peer, floor, least=0, limit=None, held=()):
    """What is held after all pages down to the floor, and the key down to which it was read."""
    listing, held = Listing(peer, "https://pds.example.com", ALICE, POST), set(held)
    upper = None
    for _ in range(99):
        page = listing.page(upper, limit=limit, floor=floor, least=least)
        covered = {
            key
            for key in held
            if (page.upper is None or key < page.upper)
            and (page.lower is None or key >= page.lower)
        }
        held = (held - covered) | page.records.keys()
        upper = page.lower
        assert not page.is_last or upper is None or upper < floor
        if upper is None or upper < floor:
            return held, upper
    raise AssertionError("it has no end")


@pytest.mark.parametrize("manner", MANNERS)
@fuzz(40)
@given(
    ages=st.sets(st.integers(0, 90), max_size=40),
    gone=st.sets(st.integers(0, 90), max_size=9),
    limit=st.sampled_from([2, 3, 30]),
    floor=st.integers(0, 90),
    least=st.sampled_from([0, 5]),
)
def test_whatever_the_order_what_is_above_the_floor_is_what_the_repo_has(
    manner, ages, gone, limit, floor, least
):
    keys = {key_of_age(days) for days in ages}
    before = {key_of_age(days) for days in gone - ages}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing_module.pds, "PAGE_RECORDS", limit)
        held, lower = read_down(Peer(keys, manner), key_of_age(floor), least, held=before)
    below = {key for key in before if lower is not None and key < lower}
    assert held >= {key for key in keys if lower is None or key >= lower}
    assert held - keys == below
    if manner.startswith("upwards"):
        # Four times as long ago, and again, until it is enough.
        assert lower is None or len(held - below) >= least


@pytest.mark.parametrize("is_inclusive", [False, True])
def test_one_record_alone_shows_no_order(is_inclusive):
    # Upwards by key, and the least one is so large that no other comes with it.
    keys = {key_of_age(days) for days in range(1, 30)}
    peer = Peer(keys, "upwards by key")
    if not is_inclusive:
        peer.manner = "what comes after the cursor"
    get_json = peer.get_json

    def answer(url, params, **bounds):
        page = get_json(url, params, **bounds)
        if len(page["records"]) > 1 and page["records"][0] == peer.entry(min(keys)):
            raise TooLarge("pds.example.com: the answer is too large")
        return page

    peer.get_json = answer
    listing = Listing(peer, "https://pds.example.com", ALICE, POST)
    if is_inclusive:
        # It never comes any further, and says nothing of the others.
        with pytest.raises(FetchFailed, match="again"):
            listing.page(limit=30)
    else:
        page = listing.page(limit=30)
        assert (page.records.keys(), page.lower) == (keys, None)


def test_who_has_one_record_only_is_read_in_two_requests():
    peer = Peer({key_of_age(3)}, "official")
    held, lower = read_down(peer, key_of_age(60), held={key_of_age(4)})
    assert (held, lower, peer.asked) == ({key_of_age(3)}, None, 2)


# What a PDS may give for a cursor that it does not know, of all that it has in its order.
STRAY = {"nothing": slice(0, 0), "its last page": slice(-50, None), "its first": slice(0, 50)}


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
def test_who_knows_no_place_by_its_key_is_read_whole_or_takes_nothing_away(stray, monkeypatch):
    # In the order in which they came: a hundred and fifty upwards, and the others the other way
    # round. The cursor is the last key.
    keys = {key_of_age(days / 10) for days in range(10, 600)}
    peer = Peer(keys, "upwards by key")
    peer.manner = "as they came"
    peer.places[150:] = reversed(peer.places[150:])
    get_json, known = peer.get_json, [name for name, _ in peer.places]

    def answer(url, params, **bounds):
        if params.get("cursor", known[0]) in known:
            return get_json(url, params, **bounds)
        return {"records": [peer.entry(key) for _, key in peer.places[stray]]}

    peer.get_json = answer
    assert read_down(peer, key_of_age(50), held=keys) == (keys, None)
    monkeypatch.setattr(listing_module, "MAX_PAGES", 3)
    with pytest.raises(FetchFailed, match="no end"):
        read_down(peer, key_of_age(50), held=keys)


def test_silence_is_believed_of_who_finds_what_is_there():
    keys = {key_of_age(days) for days in range(300, 900)}
    held, lower = read_down(Peer(keys, "upwards"), key_of_age(7), held={key_of_age(2)})
    assert held == set()
    assert lower is not None


def test_upwards_only_what_is_wanted_is_read():
    peer = Peer({key_of_age(days / 10) for days in range(10_000)}, "upwards")
    held, lower = read_down(peer, key_of_age(30), least=100)
    assert lower == int_to_tid(((NOW_US - 30 * DAY_US) << 10) - 1)
    assert len(held) == 301
    assert peer.asked == 5


def test_who_was_silent_for_long_is_read_further_down():
    days = [*range(200, 320), *range(1_000, 5_000)]
    held, lower = read_down(Peer({key_of_age(day) for day in days}, "upwards"), key_of_age(30), 100)
    assert lower is not None
    assert len(held) == 120


@pytest.mark.parametrize("manner", ["upwards", "shuffled"])
def test_what_has_no_end_is_given_up(manner, monkeypatch):
    monkeypatch.setattr(listing_module, "MAX_PAGES", 5)
    with pytest.raises(FetchFailed, match="no end"):
        read_down(Peer({key_of_age(1, number) for number in range(2_000)}, manner), key_of_age(30))


@pytest.mark.parametrize("takes_s", [9, 19])
def test_what_drips_is_given_up_however_often_it_goes_further_down(takes_s, monkeypatch):
    # A few more below each floor, so that there are never enough.
    ages = [days for floor in (7, 28, 112, 448, 1792) for days in range(floor, floor + 20)]
    peer = Peer({key_of_age(days) for days in ages}, "upwards")
    clock, get_json = [0.0], peer.get_json

    def drip(url, params, **bounds):
        clock[0] += takes_s
        return get_json(url, {**params, "limit": "5"}, **bounds)

    peer.get_json = drip
    monkeypatch.setattr(listing_module.time, "monotonic", lambda: clock[0])
    listing = Listing(peer, "https://pds.example.com", ALICE, POST)
    page = listing.page(floor=key_of_age(7), least=10_000)
    # The first page, and the one that was asked for in time; then the last floor that was reached.
    assert clock[0] <= listing_module.MAX_SECONDS + 2 * takes_s
    assert page.records.keys() == {key for key in map(key_of_age, ages) if key >= page.lower}


def test_pages_that_repeat_are_given_up():
    peer = Peer({key_of_age(days) for days in range(300)}, "official")
    get_json = peer.get_json

    def forget_cursor(url, params, **bounds):
        return get_json(url, {**params, "cursor": None}, **bounds)

    peer.get_json = forget_cursor
    with pytest.raises(FetchFailed, match="again"):
        read_down(peer, key_of_age(400))
    assert peer.asked < 99
