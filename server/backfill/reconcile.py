"""Compares what we have with what the authors' PDSes have, a little every minute, for ever.

Two tours go round. The one of everybody asks for each complete repo's latest commit, and compares
its rev with ours: where commits continue each other that is all there is to compare. A source that
carries no such chain (a Jetstream) leaves out whole commits, of likes say, and our rev is not the
repo's: then it lists the newest records instead. So it does after a change from such a source: what
that one lost is older than the author's next commit, whose rev we then share with the PDS. A repo
is listed in each round until one listing since that commit has shown no difference (RECHAINED, in
storage/repos.py). The other tour lists the follows of viewers who were here lately, whatever the
source: all else hangs on them.

Promises. What sources lose in silence, read alone, in turns or together, the next round finds;
where it takes a listing, posts and reposts as far as LISTED_DAYS and its bounds go (look.py). A
difference counts once the stream has gone SETTLE_MS past the look and has not explained it; then
the author is written into the gap ledger with what was found, and fetched again. A PDS that fails
us is asked again in the next round; one that lies can have its own accounts fetched again, and no
more often than it is asked; one that drips holds a tour up for a look, which is bounded.

Bounds: REQUESTS_A_MINUTE for everybody and FOLLOWS_REQUESTS_A_MINUTE for follows, ASKERS requests
at once, MAX_SUSPICIONS in memory (a restart forgets them: the next round finds them again). For
200,000 authors a round takes 19 hours by commits, and 37 by listing, two requests an author and
more for those who write more than a page in LISTED_DAYS. After a change to a relay each author is
listed until once after their next commit; that this showed nothing is a transaction. With few
authors a round begins every ROUND_HOURS. While BUSY_JOBS backfills wait that somebody waits for,
ASKERS are looked at in BUSY_PAUSE_SECONDS: few, but whoever sees to it that as many always wait
does not keep the others from being compared.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event as StopEvent

from server.backfill.look import Look, collections_of
from server.backfill.sources import Sources
from server.core.errors import FetchFailed
from server.core.syntax import FOLLOW
from server.storage import discrepancies, jobs, rounds
from server.storage.database import release
from server.storage.discrepancies import Finding, KnownRepo
from server.storage.repos import CHAINED

log = logging.getLogger(__name__)

REQUESTS_A_MINUTE = 180
FOLLOWS_REQUESTS_A_MINUTE = 60
ASKERS = 4
# One turn of a tour; both together end before the next minute's do. No look is begun after it.
TURN_SECONDS = 25.0
ROUND_HOURS = 6
# Viewers who opened a feed in this time.
LATELY_DAYS = 3
BUSY_JOBS = 100
BUSY_PAUSE_SECONDS = 10.0
# How far the stream has to go past a look. Relays are about a second behind a PDS, and the times in
# events are the words of machines whose clocks differ.
SETTLE_MS = 120_000
MAX_SUSPICIONS = 20_000

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A difference that the stream may still explain. `asked_ms` is after the PDS's answer."""

    repo: KnownRepo
    finding: Finding
    asked_ms: int


@dataclass(slots=True)
class Tour:
    """Looks at one repo after the other, and begins again. `owed`: requests beyond the share."""

    name: str
    requests_a_minute: int
    repos_after: Callable[[int, int], list[KnownRepo]]
    look: Callable[[Look], Finding | None]
    owed: int = 0


class Reconcile:
    """`run` is one minute's share; one thread calls it."""

    def __init__(
        self,
        sources: Sources,
        stop: StopEvent,
        carries_chain: Callable[[], bool] = discrepancies.carries_chain,
    ) -> None:
        """`carries_chain`: whether the source that is read now shows that commits are missing."""
        self.sources = sources
        self.stop = stop
        self.carries_chain = carries_chain
        # By author and tour: each may have found another difference.
        self.suspicions: dict[tuple[int, str], Suspicion] = {}
        self.tours = (
            Tour("follows", FOLLOWS_REQUESTS_A_MINUTE, _viewers_after, _look_at_follows),
            Tour("everybody", REQUESTS_A_MINUTE, discrepancies.complete_after, self._look_at_repo),
        )

    def run(self) -> None:
        """Settle what can be, and look at some more. Raises DatabaseError or LeaseLost."""
        self._settle()
        with ThreadPoolExecutor(ASKERS, thread_name_prefix="reconcile") as pool:
            for tour in self.tours:
                self._go_on(tour, pool)

    def _settle(self) -> None:
        """Have those fetched again whose difference the stream has not explained."""
        host, event_ms = discrepancies.stream_position()
        # What a clock that was ahead has noted would wait until then: the next round finds it anew.
        latest_ms = _now_us() // 1000 + SETTLE_MS
        self.suspicions = {n: s for n, s in self.suspicions.items() if s.asked_ms <= latest_ms}
        due = [n for n, s in self.suspicions.items() if event_ms - s.asked_ms >= SETTLE_MS]
        for place in due:
            one = self.suspicions.pop(place)
            epoch, now_us = self.sources.epoch, _now_us()
            found = discrepancies.resync(one.repo, one.finding, host, one.asked_ms, epoch, now_us)
            if found is not None:
                reason = one.finding.reason
                log.warning("discrepancy did=%s reason=%s: %s", one.repo.did, reason, found)

    def _go_on(self, tour: Tour, pool: ThreadPoolExecutor) -> None:
        place = rounds.load(tour.name)
        # A beginning in the future is as odd as one long ago: it was by a clock that was ahead.
        if place.author_id == 0 and abs(_now_us() - place.began_us) < ROUND_HOURS * HOUR_US:
            return
        last = place.author_id
        until = time.monotonic() + TURN_SECONDS
        left = tour.requests_a_minute - tour.owed
        while left > 0 and time.monotonic() < until and not self.stop.is_set():
            is_busy = jobs.are_many_waiting(_now_us(), BUSY_JOBS)
            if is_busy and self.stop.wait(BUSY_PAUSE_SECONDS):
                break
            repos = tour.repos_after(last, ASKERS)
            left -= sum(pool.map(lambda repo: self._look(tour, repo), repos))
            last = repos[-1].author_id if len(repos) == ASKERS else 0
            rounds.move(tour.name, last, _now_us())
            if last == 0:
                hours = (_now_us() - rounds.load(tour.name).began_us) / HOUR_US
                log.info("reconciled all tour=%s hours=%.1f", tour.name, hours)
                break
        tour.owed = max(0, -left)

    def _look(self, tour: Tour, repo: KnownRepo) -> int:
        """Look at one repo; how many requests it took."""
        if self.stop.is_set():
            return 0
        look = Look(self.sources, repo, self.stop)
        try:
            finding = tour.look(look)
        except FetchFailed as failed:
            log.debug("not compared did=%s: %s", repo.did, failed)
            return look.requests
        finally:
            release()
        if look.is_partial:
            log.info("compared in part did=%s requests=%d", repo.did, look.requests)
        if finding is not None and len(self.suspicions) < MAX_SUSPICIONS:
            one = Suspicion(repo, finding, asked_ms=_now_us() // 1000)
            self.suspicions[repo.author_id, tour.name] = one
        return look.requests

    def _look_at_repo(self, look: Look) -> Finding | None:
        if look.repo.is_chained == CHAINED and self.carries_chain():
            return look.at_commit()
        finding = look.at_records(collections_of(look.repo))
        if finding is None and look.has_listed and not look.is_partial:
            discrepancies.vouch(look.repo, self.sources.epoch)
        return finding


def _viewers_after(author_id: int, limit: int) -> list[KnownRepo]:
    seen_since_us = _now_us() - LATELY_DAYS * 24 * HOUR_US
    return discrepancies.viewers_after(author_id, seen_since_us, limit)


def _look_at_follows(look: Look) -> Finding | None:
    return look.at_records((FOLLOW,))


def _now_us() -> int:
    return time.time_ns() // 1000
