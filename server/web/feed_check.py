"""Is my feed complete? What may be told about the feed of whoever somebody names.

Anybody may name anybody, and whether somebody uses Gapless is not public. So a viewer's feed is
spoken of only where the account itself has said in public that it cares: it likes one of our feeds
(the heart on the feed's page), which is a record in its own repo that nobody else can write. All
other accounts, viewers or not, get one and the same answer after the same questions to the same
servers. What is told is numbers: how many of the accounts they follow are here, never which.

Bounds: a handle of 253 letters at most; one look at a time in each process, LOOKS at once and then
LOOKS_EACH_S a second, since it holds a thread that feeds need; each of up to four questions (DNS,
the handle's host, the DID's document, the likes) may take STEP_S. What was answered is kept for
KEPT_S, and a feed's numbers for COUNTED_S, so that a page which refreshes itself asks nobody. One
feed at a time is counted in each process: for 200,000 follows that takes two seconds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from server.core.budget import Budget
from server.core.errors import FetchFailed
from server.core.syntax import is_did, is_hostname
from server.identity.fetcher import Fetcher
from server.identity.handles import Handles
from server.identity.likes import likes_any
from server.storage import ledger, viewers
from server.storage.allowance import allowed
from server.storage.ledger import Completeness, Window
from server.storage.viewers import Readiness

LOOKS, LOOKS_EACH_S = 10, 0.5
STEP_S = 2.0
KEPT_S = 60
MAX_KEPT = 1000
# Of our own tables somebody's numbers are read this often at most.
COUNTED_S = 2
# For all that this asks of them.
COUNT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of `account`, as it was typed.

    `kind`: "invalid" (no handle), "busy" (too many ask), "unknown" (cannot be found now),
    "private" (nothing is told, see above), or "shown": then the other fields are there.
    """

    account: str
    kind: str
    readiness: Readiness | None = None
    completeness: Completeness | None = None

    @property
    def is_building(self) -> bool:
        """Whether there is more to come within seconds or minutes."""
        return self.readiness is not None and (
            not self.readiness.are_follows_known or not self.readiness.has_first_page
        )


class FeedChecks:
    """Answers of one process. Safe to share between threads."""

    def __init__(
        self,
        fetcher: Fetcher,
        handles: Handles,
        uris: Collection[str],
        now_us: Callable[[], int],
    ) -> None:
        """`uris`: of our feeds. `fetcher` is one of its own: a slow host must hold up nobody."""
        self._fetcher = fetcher
        self._handles = handles
        self._uris = uris
        self._now_us = now_us
        self._looking = threading.Lock()
        self._counting = threading.Lock()
        # Guards the rest; never held while somebody is asked.
        self._lock = threading.Lock()
        self._budget = Budget(LOOKS, LOOKS_EACH_S)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def answer(self, text: str, window: Window) -> Answer:
        """What to tell who asks for `text`. Raises DatabaseError."""
        account = text.strip().removeprefix("@")
        account = account if is_did(account) else account.lower()
        if not (is_did(account) or is_hostname(account)):
            return Answer(account, "invalid")
        try:
            kept = self._ask(account)
        except _Busy:
            return Answer(account, "busy")
        except FetchFailed:
            return Answer(account, "unknown")
        now_us = self._now_us()
        if kept.answer is None or now_us - kept.counted_us > COUNTED_S * 1_000_000:
            # A thread that waits here is one that feeds need: the others get what there is.
            if not self._counting.acquire(blocking=False):
                return kept.answer or Answer(account, "busy")
            try:
                kept.answer, kept.counted_us = _count(account, kept.did, window), now_us
            finally:
                self._counting.release()
        return kept.answer

    def _ask(self, account: str) -> "_Kept":
        """What the servers say of an account, or said lately. Raises FetchFailed."""
        now_us = self._now_us()
        with self._lock:
            kept = self._kept.get(account)
            if kept is not None and 0 <= now_us - kept.asked_us < KEPT_S * 1_000_000:
                return kept
        if not self._looking.acquire(blocking=False):
            raise _Busy("somebody else is being looked for")
        try:
            if not self._budget.take(now_us):
                raise _Busy("too many were looked for")
            found = self._handles.find(account, STEP_S)
            likes = likes_any(self._fetcher, found, self._uris, STEP_S)
            kept = _Kept(now_us, found.did if likes else None)
        finally:
            self._looking.release()
        with self._lock:
            self._kept[account] = kept
            self._kept.move_to_end(account)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return kept


@dataclass(slots=True)
class _Kept:
    """`did` is None unless the account likes a feed of ours; `answer` is from `counted_us`."""

    asked_us: int
    did: str | None
    answer: Answer | None = None
    counted_us: int = 0


class _Busy(FetchFailed):
    """Too many want to know at once."""


def _count(account: str, did: str | None, window: Window) -> Answer:
    with allowed(COUNT_SECONDS):
        viewer = None if did is None else viewers.find(did)
        if viewer is None:
            return Answer(account, "private")
        readiness = viewers.readiness(viewer.number)
        return Answer(account, "shown", readiness, ledger.of_viewer(viewer.number, window, 0))
