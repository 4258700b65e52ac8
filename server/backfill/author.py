"""The backfill of one repo: what to fetch next, and when it is complete.

The order in which things happen is what makes it seamless: see storage/pages.py. A job that stops
anywhere (crash, error, another job's turn) goes on from its last committed page. After TURN_SECONDS
a turn goes no further down a listing, if it has saved a page; what it has begun may take a few
requests more, each of them DEADLINE_SECONDS (pds.py) at most, and what a PDS lists in an order of
its own MAX_SECONDS (listing.py).

Before a turn fails, the directory is asked, for the address may be wrong: if it names another PDS,
the next turn goes there. Where the repo is said not to be there (RepoNotFound, say), and the
directory names this PDS or knows nobody, the account is hidden and the job done. After any other
failure (500, say, or a refusal without a reason) the job stays, unless the directory knows nobody.
A host that asks us to wait is there, though: for that nobody is asked, unless it says nothing else
for BELIEVED_RESTS turns.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Event as StopEvent

from server.backfill import pds
from server.backfill.listing import Listing
from server.backfill.locate import Home, as_stored, look_up_home
from server.backfill.sources import STATUSES, Sources
from server.core.errors import FetchFailed, HostRests, NotFound
from server.core.syntax import FOLLOW, POST, REPOST, int_to_tid, is_tid, tid_to_int
from server.storage import pages, repos
from server.storage.authors import StoredIdentity
from server.storage.crash_points import crash_point
from server.storage.jobs import Job, Progress
from server.storage.page_rows import Page
from server.storage.pages import Listed, Opening, Snapshot, Whole

log = logging.getLogger(__name__)

# 100 times 100 follows, far beyond what clients let anybody follow; a repo with more is not a
# person's, and goes on in the next turn of its job.
MAX_PAGES_A_TURN = 100
# Some fifty pages of a PDS that is well; one that drips is not to hold a worker for so many.
TURN_SECONDS = 10.0
# What asks for nothing but rest so many times in a row may be no PDS any more.
BELIEVED_RESTS = 5


class Backfill:
    """One turn of one job. `run` raises FetchFailed when a peer fails; the job stays queued.

    It speaks to the database through `sources.write` alone, so its thread needs no connection.
    """

    def __init__(
        self,
        job: Job,
        sources: Sources,
        stop: StopEvent,
        enter: Callable[[str], bool] = lambda _pds_url: True,
    ) -> None:
        """`enter` says whether there is room at a PDS of which a look-up has told only now."""
        self.job = job
        self.sources = sources
        self.stop = stop
        self.enter = enter
        self.progress = job.progress
        self.pds_url = ""
        self.until = time.monotonic() + TURN_SECONDS
        self.has_progress = False
        self.follows_go_on = self.progress.cursors.get(FOLLOW) is not None
        # To be remembered with the next rows that are written.
        self.looked_up: Home | None = None
        # Collections whose page that was read last is the last one that can be asked for.
        self.nothing_below: set[str] = set()

    def run(self) -> None:
        """Fetch what is due: a viewer's follows, then the newest pages, then the rest."""
        try:
            try:
                self.pds_url = self._find_pds()
                if self.looked_up is not None and not self.enter(self.pds_url):
                    # The job stays due, and those who hand jobs out know now for which PDS.
                    self._remember_home(self.looked_up)
                    return
                self._take_up()
                if self.job.snapshot_rev == 0 and not self._open():
                    return
                self._fetch()
            except NotFound as gone:
                self._settle_absence(gone, self.pds_url or None)
        except FetchFailed as failure:
            self._check_address(failure)

    def _take_up(self) -> None:
        """Go on where an earlier turn stopped, if that was at the same PDS: cursors are its own."""
        if self.progress.home not in ("", self.pds_url):
            self.progress = Progress(floors=self.progress.floors)
        self.progress.home = self.pds_url

    def _open(self) -> bool:
        """Read the rev, and the newest pages but of a viewer; False if this turn ends here."""
        rev = pds.latest_rev(self.sources.fetcher, self.pds_url, self.job.did)
        newest: list[Page] = []
        if not self.job.wants & repos.FOLLOWS:
            newest = [self._read_page(name, None, pds.FIRST_RECORDS) for name in (POST, REPOST)]
        opening = Opening(self.job, rev, newest, partial(self._begin, newest), self._home())
        changes = [change for page in newest for change in page.changes]
        stored = self.sources.write(pages.open_repos, opening, self.job.author_id, changes)
        crash_point("snapshot: stored")
        if stored is Snapshot.BEHIND:
            raise FetchFailed("the PDS is behind the stream")
        # Everybody's newest page comes before anybody's second one.
        return stored is Snapshot.STORED and (not newest or self._is_listed())

    def _begin(self, newest: Sequence[Page], least: Mapping[str, str]) -> Progress:
        """How far the job is with these pages; `least`: the least keys that we hold."""
        # What an earlier turn listed is older than this rev.
        floors = {name: self._floor(least.get(name)) for name in (POST, REPOST)}
        self.progress = Progress(floors=floors, home=self.pds_url)
        for page in newest:
            self._advance_from_newest(page.collection, page.lower)
        return self.progress

    def _advance_from_newest(self, collection: str, lower: str | None) -> None:
        """Where the second page begins."""
        if collection not in self.nothing_below:
            # The first one is too short to stop after: of everybody we want PAGE_RECORDS at least.
            self.progress.go_on(collection, lower)
            return
        self._advance(collection, lower)
        if not self.progress.is_done(collection):
            # Read upwards from a floor that was not low enough: once more, from the one known now.
            self.progress.begin_anew(collection)

    def _floor(self, least: str | None) -> str:
        """The key down to which a collection has to be listed."""
        # What we have had below that may have been deleted meanwhile: it is read again as well.
        floor = self._usual_floor()
        return floor if least is None else min(floor, least)

    def _usual_floor(self) -> str:
        wanted = self.job.wanted_since_us(_now_us(), self.sources.backfill_days) << 10
        return int_to_tid(min(wanted, self.job.horizon_rkey))

    def _home(self) -> StoredIdentity | None:
        """To be remembered with what is written next."""
        return None if self.looked_up is None else as_stored(self.looked_up)

    def _remember_home(self, home: Home) -> None:
        self.sources.write(pages.remember_homes, as_stored(home), self.job.author_id)

    def _fetch(self) -> None:
        job = self.job
        # Whom a viewer follows comes first: it decides what all others wait for.
        if job.wants & repos.FOLLOWS and not self._list_all(FOLLOW):
            return
        if not self._is_begun():
            if not (self._list_page(POST) and self._list_page(REPOST)):
                return
            is_current = self.sources.write(pages.mark_partial, job, job.author_id)
            crash_point("newest pages: marked")
            if not is_current or not self._is_listed():
                return
        if self._list_all(POST) and self._list_all(REPOST):
            # Complete down to here in both collections.
            stops = [tid_to_int(key) for key in self.progress.horizons.values()]
            horizon = max(stops, default=0)
            crash_point("finish: all pages committed")
            self.sources.write(pages.finish, Whole(job, horizon), job.author_id)
            crash_point("finish: live and gaps closed")

    def _is_begun(self) -> bool:
        return self.progress.is_begun(POST) and self.progress.is_begun(REPOST)

    def _is_listed(self) -> bool:
        return self.progress.is_done(POST) and self.progress.is_done(REPOST)

    def _list_all(self, collection: str) -> bool:
        """All pages that are left; False if the job is out of date, or has had its turn."""
        for _ in range(MAX_PAGES_A_TURN):
            if self.progress.is_done(collection):
                return True
            if self._is_over() or not self._list_page(collection):
                return False
        return False

    def _is_over(self) -> bool:
        """Whether the turn has had its time. It gets a page further, whatever that takes."""
        return self.has_progress and time.monotonic() >= self.until

    def _list_page(self, collection: str) -> bool:
        """Fetch and commit one page; False if the job is out of date, or we are to stop."""
        if self.stop.is_set():
            return False
        page = self._read_page(collection, self.progress.cursors.get(collection))
        self._advance(collection, page.lower)
        self.progress.count(collection, len(page.listed))
        listed = Listed(self.job, page, self.progress, self._priority(), self._home())
        is_current = self.sources.write(
            pages.commit_pages, listed, self.job.author_id, page.changes
        )
        self.has_progress = True
        crash_point("page: committed")
        return is_current

    def _read_page(self, collection: str, upper: str | None, limit: int | None = None) -> Page:
        listing = Listing(self.sources.fetcher, self.pds_url, self.job.did, collection, self._go_on)
        floor, least = None, 0
        if collection != FOLLOW:
            floor = self.progress.floors.get(collection, self._usual_floor())
            # Of everybody we want so many at least.
            least = pds.PAGE_RECORDS
        listed = listing.page(upper, limit=limit, floor=floor, least=least)
        if listed.is_last:
            self.nothing_below.add(collection)
        else:
            self.nothing_below.discard(collection)
        changes = [change for change in listed.records.values() if change is not None]
        return Page(collection, changes, listed.records.keys(), listed.upper, listed.lower)

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise FetchFailed("we are to stop")

    def _advance(self, collection: str, cursor: str | None) -> None:
        """Where to go on; nowhere at the end of the collection, or once it is listed low enough."""
        floor = self.progress.floors.get(collection)
        if floor is not None and cursor is not None and is_tid(cursor) and cursor < floor:
            self.progress.end(collection, horizon=cursor)
        else:
            self.progress.go_on(collection, cursor)

    def _priority(self) -> int:
        """How urgent the rest of the job is."""
        if self.job.wants & repos.FOLLOWS and self.progress.cursors.get(FOLLOW) is not None:
            return repos.NEWEST_PAGE if self.follows_go_on else repos.VIEWER_FOLLOWS
        return repos.OLDER_PAGES if self._is_begun() else repos.NEWEST_PAGE

    def _find_pds(self) -> str:
        if self.job.pds_url is not None:
            return self.job.pds_url
        self.looked_up = look_up_home(self.sources.directory, self.job.did)
        return self.looked_up.pds_url

    def _check_address(self, failure: FetchFailed) -> None:
        """Raise the failure, or that the repo has moved; settle its absence if it is gone."""
        if self.looked_up is None and self._may_have_moved(failure):
            try:
                self.looked_up = look_up_home(self.sources.directory, self.job.did)
            except NotFound as gone:
                self._settle_absence(gone, None)
                return
            except FetchFailed as unknown:
                raise failure from unknown
            if self.looked_up.pds_url != self.pds_url:
                failure = FetchFailed("the repo has moved", retry_after_s=0.0)
        if self.looked_up is not None:
            self._remember_home(self.looked_up)
        raise failure

    def _may_have_moved(self, failure: FetchFailed) -> bool:
        is_believed = isinstance(failure, HostRests) and self.job.attempts < BELIEVED_RESTS
        return self.job.pds_url is not None and not is_believed and not self.stop.is_set()

    def _settle_absence(self, gone: NotFound, pds_url: str | None) -> None:
        """Believe that the repo is gone only from the PDS that the directory names now.

        `pds_url`: whose word it is; None: the directory's. After a migration the old one says so as
        well. Some say only InvalidRequest: that may mean anything.
        """
        status = STATUSES.get(gone.name) or self._reason(pds_url)
        if status is None:
            raise FetchFailed(f"the PDS refuses: {gone.name} {gone}") from gone
        home = None
        with suppress(NotFound):
            home = self.looked_up = look_up_home(self.sources.directory, self.job.did)
        if home is not None and home.pds_url != pds_url:
            self._remember_home(home)
            raise FetchFailed("the repo has moved", retry_after_s=0.0) from gone
        log.info("repo not shown did=%s status=%s", self.job.did, status)
        self.sources.write(pages.finish_inactive, (self.job, status), self.job.author_id)
        crash_point("absence: settled")

    def _reason(self, pds_url: str | None) -> str | None:
        """Why the repo is not shown: listRecords says InvalidRequest of any, this has names."""
        if pds_url is not None:
            try:
                pds.latest_rev(self.sources.fetcher, pds_url, self.job.did)
            except NotFound as gone:
                return STATUSES.get(gone.name)
        return None


def _now_us() -> int:
    return time.time_ns() // 1000
