"""What the stream says of accounts, looked into: who is deleted, and who is who now.

Deleted. A word of the stream hides an account at once, and takes nothing away: an account that has
moved is deleted at the PDS that it left, and that PDS may say so to anybody. What the account left
here goes only when two agree: the stream, and the PDS that the directory names now (or the
directory, if it names nobody any more); or a PDS that was asked before, and the directory. If its
PDS shows the account, the word was false: it is written into the ledger, and the author is fetched
and shown again.

Unlisted. The directory knows no such account, and nobody else has said a word: a directory, or the
website of a did:web, that had a bad hour says that as well. Such an account is hidden, because
nobody can be asked for its repo, and its rows stay for as long as everybody's. It is asked for in
turn; once the directory names a PDS, the author is fetched and shown again. A tombstone of PLC
needs nobody's agreement.

Identity. After an #identity event the document is looked up: handle, PDS and key.

Bounds: each a few a minute, in turn, so that whoever floods the stream with such events uses that
up and no more; a peer that fails is asked again in the next turn.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event as StopEvent
from typing import TypeVar

from server.backfill import pds
from server.backfill.locate import NOT_LISTED, look_up_pds
from server.backfill.sources import STATUSES, Sources
from server.core.errors import FetchFailed, NotFound
from server.core.syntax import int_to_tid
from server.storage import authors, departures, discrepancies, repos, rounds
from server.storage.authors import Account
from server.storage.database import release
from server.storage.discrepancies import KnownRepo, OtherStatus

log = logging.getLogger(__name__)

# Words of the stream: each hides somebody, perhaps wrongly, until it is looked into.
CLAIMS_A_MINUTE = 60
# Words of PDSes: hidden already, and in no hurry. Should a directory forget everybody for an hour,
# that costs few of them their history.
ABSENCES_A_MINUTE = 5
# Words of the directory: hidden, perhaps wrongly; but most of them never were anybody.
UNLISTED_A_MINUTE = 20
IDENTITIES_A_MINUTE = 60
ASKERS = 4

Subject = TypeVar("Subject", KnownRepo, Account)


class Accounts:
    """`run` is one minute's share; one thread calls it."""

    def __init__(self, sources: Sources, stop: StopEvent) -> None:
        self.sources = sources
        self.stop = stop

    def run(self) -> None:
        """Look into some of what was said. Raises DatabaseError or LeaseLost."""
        called_after = discrepancies.called_after
        claimed = partial(called_after, repos.DELETED)
        absent = partial(called_after, repos.DELETED_AT_PDS)
        unlisted = partial(called_after, repos.UNLISTED)
        self._turn("claims", CLAIMS_A_MINUTE, claimed, self._look_into_claim)
        self._turn("absences", ABSENCES_A_MINUTE, absent, self._look_into_absence)
        self._turn("unlisted", UNLISTED_A_MINUTE, unlisted, self._look_into_unlisted)
        self._turn("identities", IDENTITIES_A_MINUTE, authors.outdated_after, self._look_up)

    def _turn(
        self,
        name: str,
        limit: int,
        found_after: Callable[[int, int], list[Subject]],
        look_into: Callable[[Subject], object],
    ) -> None:
        """Look into the next few, each once in a turn, and all in turn."""

        def guarded(one: Subject) -> None:
            try:
                if not self.stop.is_set():
                    look_into(one)
            except FetchFailed as failed:
                log.debug("not looked into turn=%s did=%s: %s", name, one.did, failed)
            finally:
                release()

        found = found_after(rounds.load(name).author_id, limit)
        with ThreadPoolExecutor(ASKERS, thread_name_prefix=name) as pool:
            for _ in pool.map(guarded, found):
                pass
        last = found[-1].author_id if len(found) == limit else 0
        rounds.move(name, last, _now_us())

    def _look_into_claim(self, repo: KnownRepo) -> None:
        """The stream says that the account is deleted."""
        try:
            home = look_up_pds(self.sources.directory, repo.did)
        except NotFound:
            self._purge(repo, "the directory has no such account")
            return
        try:
            rev = pds.latest_rev(self.sources.fetcher, home, repo.did)
        except NotFound as gone:
            self._settle_absence(repo, gone)
        else:
            self._refute(repo, OtherStatus(True, f"commit {int_to_tid(rev)}"))

    def _settle_absence(self, repo: KnownRepo, gone: NotFound) -> None:
        status = STATUSES.get(gone.name)
        if status is None:
            raise FetchFailed(f"the PDS refuses: {gone}") from gone
        if status == repos.DELETED:
            self._purge(repo, f"its PDS says {gone.name}")
        else:
            # Hidden all the same, and not gone for good.
            self._call(repo, repos.PDS_SAYS + status)

    def _look_into_absence(self, repo: KnownRepo) -> None:
        """A PDS said that it has no such account; what the directory says decides."""
        try:
            look_up_pds(self.sources.directory, repo.did)
        except NotFound:
            self._purge(repo, "the directory has no such account")

    def _look_into_unlisted(self, repo: KnownRepo) -> None:
        """The directory had no such account; what it says now is heard."""
        try:
            home = look_up_pds(self.sources.directory, repo.did)
        except NotFound as gone:
            if gone.name != NOT_LISTED:
                self._call(repo, repos.DELETED_AT_PDS)
        else:
            self._refute(repo, OtherStatus(True, f"it lives at {home}", "the directory"))

    def _look_up(self, account: Account) -> None:
        look_up_pds(self.sources.directory, account.did)

    def _call(self, repo: KnownRepo, status: str) -> None:
        departures.call(repo.author_id, status, repo.status, self.sources.epoch)

    def _refute(self, repo: KnownRepo, finding: OtherStatus) -> None:
        host, _ = discrepancies.stream_position()
        now_us, epoch = _now_us(), self.sources.epoch
        found = discrepancies.resync(repo, finding, host, now_us // 1000, epoch, now_us)
        if found is not None:
            log.warning("account called %s is there did=%s: %s", repo.status, repo.did, found)

    def _purge(self, repo: KnownRepo, why: str) -> None:
        log.info("account deleted did=%s: %s", repo.did, why)
        while departures.purge(repo.author_id, self.sources.epoch):
            if self.stop.is_set():
                return


def _now_us() -> int:
    return time.time_ns() // 1000
