"""A collection as its PDS lists it, made into pages that go down from the newest key.

Of such a page it is known which records of ours it speaks for (storage/pages.py). The official PDS
gives them: it begins with the greatest key, and its cursor is the last key. Not all do. cocoon goes
by when a record came to it, so after an import by nothing that we know, with a cursor of its own;
arroba (Bridgy Fed) and Cirrus begin with the least key, and their cursor is a path.

Promises. What is not listed is taken away from our rows, so a page speaks only for what it proves.
One whose keys go down, two at least, and whose cursor says so, is taken as it comes. Of any other
order the collection is read to its end first, and is one page here, the last: where the cursor
tells how to go to a key, from just below the floor that the caller names, or further down for as
many records as are wanted. There the keys must go up; and before nothing at all is believed, a key
that is known to be there must be found in the same way.

Bounds: for what is read to its end MAX_SECONDS, however often it goes further down, and the request
that is under way then; MAX_PAGES from wherever it begins, each with a record that was not there
before. Beyond that the last floor that was reached stands; if there is none it raises FetchFailed,
as for all that a PDS says and that cannot be.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from server.backfill import pds
from server.backfill.pds import ListedRecord, RawPage
from server.core.errors import BadRecord, FetchFailed
from server.core.projection import (
    SaveFollow,
    SaveItem,
    backfill_seen_ms,
    project_record,
    tie_of_cid_text,
)
from server.core.syntax import int_to_tid, is_tid, tid_to_int, tid_us
from server.identity.fetcher import Fetcher

MAX_PAGES = 300
MAX_SECONDS = 120.0
DAY_US = 86_400_000_000

Records = dict[str, SaveItem | SaveFollow | None]


@dataclass(frozen=True, slots=True)
class Listed:
    """Records by their keys, None for what its lexicon refuses.

    They are all from `lower` (None: the least key) up to, but not with, `upper` (None: beyond the
    greatest). `is_last`: nothing below can be asked for, but with a lower floor.
    """

    records: Records
    upper: str | None
    lower: str | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """One collection of one repo. `before_each` is called before each request, and may raise.

    `seconds`: for all of what has to be read to its end.
    """

    fetcher: Fetcher
    pds_url: str
    did: str
    collection: str
    before_each: Callable[[], None] = lambda: None
    seconds: float = MAX_SECONDS

    def page(
        self,
        upper: str | None = None,
        *,
        limit: int | None = None,
        floor: str | None = None,
        least: int = 0,
    ) -> Listed:
        """The records below `upper`, at which the page before ended.

        What is below `floor` need not be read, if there are `least` records without it.
        """
        page = self._ask(upper, limit) if upper is not None else self._first(limit)
        if _goes_down(page, upper):
            return Listed(
                self._project(page.records), upper, page.cursor, is_last=page.cursor is None
            )
        if upper is not None:
            # What came before in its order may have had gaps.
            page = self._first(limit)
        return self._whole(page, floor, least)

    def _first(self, limit: int | None) -> RawPage:
        """The page with which it begins, long enough to show an order if it goes on."""
        page = self._ask(None, limit)
        if page.cursor is None or len(page.records) > 1:
            return page
        # It is the only one, or the others are too large to come with it.
        following = self._ask(page.cursor, limit)
        return RawPage([*page.records, *following.records], following.cursor)

    def _whole(self, first: RawPage, floor: str | None, least: int) -> Listed:
        """All there is from the floor on, in whatever order it comes."""
        best, ends_s = None, time.monotonic() + self.seconds
        while best is None or (best.lower is not None and len(best.records) < least):
            if time.monotonic() > ends_s:
                break
            lower = self._seek(first, floor)
            found = self._to_the_end(first, lower, ends_s)
            if found is None:
                break
            if lower is not None and not self._is_proved(found, first, lower):
                # It knows no place by its key, and so what was found before was luck.
                best, floor = None, None
                continue
            best = Listed(found, None, lower, is_last=True)
            floor = _earlier(floor)
        if best is None:
            raise FetchFailed("listRecords goes by no key, or upwards, and has no end")
        return best

    def _to_the_end(self, page: RawPage, lower: str | None, ends_s: float) -> Records | None:
        """All records from this page on, or from a key; None: there are too many."""
        if lower is not None:
            page = self._ask(self._cursor_at(page, lower))
        records = self._project(page.records)
        for _ in range(MAX_PAGES):
            if page.cursor is None:
                return records
            if time.monotonic() > ends_s:
                break
            page = self._ask(page.cursor)
            more = self._project(page.records)
            if page.cursor is not None and more.keys() <= records.keys():
                raise FetchFailed("listRecords gives the same records again")
            records |= more
        return None

    def _seek(self, page: RawPage, floor: str | None) -> str | None:
        """The key from which to read, just below the floor; None: from the beginning."""
        if floor is None or not is_tid(floor) or tid_to_int(floor) == 0 or page.cursor is None:
            return None
        keys = [record.rkey for record in page.records]
        start = int_to_tid(tid_to_int(floor) - 1)
        is_upwards = keys == sorted(keys) and keys[0] < start
        return start if is_upwards and self._cursor_at(page, start) is not None else None

    def _is_proved(self, found: Records, first: RawPage, lower: str) -> bool:
        """Whether all there is from `lower` on is what was found there."""
        if found:
            keys = list(found)
            return keys == sorted(keys) and keys[0] >= lower
        # Who knows no such place gives nothing as well.
        known = [tid_to_int(one.rkey) for one in first.records if is_tid(one.rkey)]
        if not any(known):
            return False
        page = self._ask(self._cursor_at(first, int_to_tid(max(known) - 1)), 1)
        return [record.rkey for record in page.records] == [int_to_tid(max(known))]

    def _cursor_at(self, page: RawPage, key: str) -> str | None:
        """The cursor for another key, where the page's own is its last key, or the path of that."""
        for before in ("", f"{self.collection}/"):
            if page.cursor == before + page.records[-1].rkey:
                return before + key
        return None

    def _ask(self, cursor: str | None, limit: int | None = None) -> RawPage:
        self.before_each()
        return pds.list_records(
            self.fetcher, self.pds_url, self.did, self.collection, cursor, limit
        )

    def _project(self, listed: list[ListedRecord]) -> Records:
        now_ms = time.time_ns() // 1_000_000
        return {record.rkey: _project(self.collection, record, now_ms) for record in listed}


def _goes_down(page: RawPage, upper: str | None) -> bool:
    keys = [record.rkey for record in page.records]
    is_known = page.cursor is None or page.cursor == keys[-1]
    descends = all(key > following for key, following in pairwise(keys))
    return is_known and descends and (upper is None or not keys or keys[0] < upper)


def _earlier(floor: str | None) -> str | None:
    """A floor that is four times as long ago."""
    if floor is None or not is_tid(floor):
        return None
    now_us = time.time_ns() // 1000
    age_us = max(now_us - tid_us(tid_to_int(floor)), DAY_US)
    return int_to_tid(max(now_us - 4 * age_us, 0) << 10)


def _project(collection: str, record: ListedRecord, now_ms: int) -> SaveItem | SaveFollow | None:
    """Records that their lexicon refuses are nobody's loss."""
    created_at = record.value.get("createdAt") if isinstance(record.value, dict) else None
    seen_ms = backfill_seen_ms(record.rkey, created_at, now_ms)
    try:
        tie = tie_of_cid_text(record.cid)
        return project_record(collection, record.rkey, tie, record.value, seen_ms)
    except BadRecord:
        return None
