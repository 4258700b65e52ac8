"""One look at one repo: what its PDS has, against what we have. Decides nothing.

A difference is a `Finding`, for storage/discrepancies.py to judge. It counts only at the PDS that
the directory names now: one that the account has left keeps an old copy, and says what it likes.
A PDS that is behind us says nothing: the next commit must continue what we have anyway.

Bounds: MAX_PAGES of a listing, DIFFERENCES_KEPT of what differs in it. After LOOK_SECONDS no
further page is asked for, and a listing that has to be read to its end is a failure; what is under
way then, and whether the repo still lives there, may take a few requests more. A look that ends for
its bounds is partial: the newest records are compared, and of the others nothing is said. The next
round begins with the newest again. So what is far down at a PDS that is always so slow is never
compared: it is right for as long as the stream's chain of commits holds, and fetched anew when that
breaks (jobs go on where they were, however slow).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event as StopEvent

from server.backfill import pds
from server.backfill.listing import Listing, Records
from server.backfill.locate import look_up_pds
from server.backfill.sources import STATUSES, Sources
from server.core.errors import FetchFailed, NotFound
from server.core.projection import SaveFollow, SaveItem
from server.core.syntax import FOLLOW, POST, REPOST, int_to_tid, is_tid, tid_to_int
from server.storage import cursors, discrepancies, repos
from server.storage.discrepancies import (
    Finding,
    Held,
    KnownRepo,
    MissedCommit,
    OtherRecords,
    OtherStatus,
    RecordDifference,
)

# How far back items are compared record by record, if they are kept for so long: longer than a
# round takes (see reconcile.py).
LISTED_DAYS = 4
DAY_US = 86_400_000_000
# 100 times 200 follows; of more than that the newest are compared.
MAX_PAGES = 200
# Those 200 pages of a PDS that answers in a tenth of a second.
LOOK_SECONDS = 20.0
# Enough to tell that something is wrong: then everything is fetched again.
DIFFERENCES_KEPT = 50

# What the stream may call an account on its own account, whatever the PDS shows.
_RELAYS_WORDS = ("takendown", "suspended")


class Look:
    """A look at one repo. `requests` is how many it took of its PDS and of the directory.

    `is_partial`: it ended for its bounds, and older records are not compared. `has_listed`: records
    were compared, and not only the commit.
    """

    def __init__(self, sources: Sources, repo: KnownRepo, stop: StopEvent) -> None:
        self.sources = sources
        self.repo = repo
        self.stop = stop
        self.requests = 0
        self.is_partial = False
        self.has_listed = False
        self.until = time.monotonic() + LOOK_SECONDS

    def at_commit(self) -> Finding | None:
        """Compare the latest commit. Raises FetchFailed."""
        return self._where_it_lives(self._compare_commit)

    def at_records(self, collections: Sequence[str]) -> Finding | None:
        """Compare records, by listing them. Raises FetchFailed."""

        def compare(home: str) -> Finding | None:
            return self._compare_records(home, collections)

        # Of whom we do not show, there is nothing to compare.
        return self._where_it_lives(compare if self.repo.is_active else self._compare_commit)

    def _where_it_lives(self, compare: Callable[[str], Finding | None]) -> Finding | None:
        try:
            known = self.repo.pds_url
            finding = compare(known or self._look_up())
            if finding is None or known is None:
                return finding
            home = self._look_up()
        except NotFound as gone:
            if gone.name not in STATUSES:
                raise
            return OtherStatus(False, str(gone)) if self.repo.is_active else None
        return finding if home == known else compare(home)

    def _look_up(self) -> str:
        self.requests += 1
        return look_up_pds(self.sources.directory, self.repo.did)

    def _compare_commit(self, home: str) -> Finding | None:
        self.requests += 1
        try:
            rev = pds.latest_rev(self.sources.fetcher, home, self.repo.did)
        except NotFound as gone:
            if gone.name not in STATUSES:
                raise FetchFailed(f"the PDS refuses: {gone}") from gone
            return OtherStatus(False, gone.name) if self.repo.is_active else None
        if not self.repo.is_active:
            is_relays_word = self.repo.status in _RELAYS_WORDS
            return None if is_relays_word else OtherStatus(True, f"commit {int_to_tid(rev)}")
        return MissedCommit(rev) if rev > self.repo.rev else None

    def _compare_records(self, home: str, collections: Sequence[str]) -> Finding | None:
        found: list[RecordDifference] = []
        self.has_listed = False
        since_us = self._since_us()
        for collection in collections:
            if self._is_late():
                break
            floor = 0 if collection == FOLLOW else since_us << 10
            # Our rows first: what the listing shows is as new or newer.
            held = discrepancies.held(self.repo.author_id, collection, floor)
            try:
                listed, lowest = self._list(home, collection, int_to_tid(floor))
            except NotFound:
                return self._compare_commit(home)
            found += [
                RecordDifference(collection, rkey, True, held.get(rkey))
                for rkey, record in listed.items()
                if record is not None and self._is_missing(record, held, since_us)
            ]
            found += [
                RecordDifference(collection, rkey, False, row)
                for rkey, row in held.items()
                if rkey >= lowest and rkey not in listed
            ]
        self.has_listed = True
        return OtherRecords(found[:DIFFERENCES_KEPT]) if found else None

    def _since_us(self) -> int:
        """From when on records are compared. By a clock that is ahead, it would be none of them."""
        # What retention may have taken says nothing.
        days = min(LISTED_DAYS, self.sources.retention_days)
        now_us, place = time.time_ns() // 1000, cursors.load_position()
        until_us = now_us if place is None else min(now_us, place.event_ms * 1000)
        return max(0, until_us - days * DAY_US)

    def _is_missing(
        self, record: SaveItem | SaveFollow, held: dict[str, Held], since_us: int
    ) -> bool:
        if isinstance(record, SaveFollow):
            return held.get(record.rkey) != record.subject
        # Only what can neither be below the horizon nor have been let go for its age.
        return (
            is_tid(record.rkey)
            and tid_to_int(record.rkey) > max(self.repo.horizon_rkey, since_us << 10)
            and record.sort_ms > since_us // 1000
            and record.rkey not in held
        )

    def _list(self, home: str, collection: str, floor: str) -> tuple[Records, str]:
        """Records by key, None for what its lexicon refuses; and down to which key they are all."""
        records: Records = {}
        fetcher, did = self.sources.fetcher, self.repo.did
        listing = Listing(fetcher, home, did, collection, self._count, LOOK_SECONDS)
        lower = None
        for _ in self._pages():
            page = listing.page(lower, floor=floor)
            records |= page.records
            lower = page.lower
            if lower is None:
                return records, ""
            if is_tid(lower) and lower < floor:
                break
        return records, str(lower)

    def _count(self) -> None:
        if self.stop.is_set():
            raise FetchFailed("we are to stop")
        self.requests += 1

    def _pages(self) -> Iterator[int]:
        """As many as a listing may have: one at least."""
        for number in range(MAX_PAGES):
            if number > 0 and self._is_late():
                return
            yield number
        self.is_partial = True

    def _is_late(self) -> bool:
        is_late = time.monotonic() >= self.until
        self.is_partial |= is_late
        return is_late


def collections_of(repo: KnownRepo) -> tuple[str, ...]:
    """What a repo is compared by where the stream cannot vouch for it."""
    # Of follows that are cut, some are missing in any case.
    is_whole = repo.wants == repos.ITEMS | repos.FOLLOWS
    return (POST, REPOST, FOLLOW) if is_whole else (POST, REPOST)
