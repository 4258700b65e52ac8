"""Asking a Jetstream for the accounts we track and nobody else, while these are few.

For version 1, where the wish can be changed on the open connection (`options_update`). It is off
unless JETSTREAM_FILTER_DIDS says how many accounts may be listed.

Promises. No account is missed: `covered` never says more than the server has been told and has
read. The server does not answer a wish, but it answers the ping that follows it, and takes both in
their order. Until that answer, the narrower of the old wish and the new one counts.

A connection begins without a filter. What is replayed then shows whether anything is missing since
the cursor (reading.py); besides, the servers of version 1 can lose events of who replays with a
narrow filter, when they go over from the replay to what is live. So the filter comes when what is
told has been of now for a while. Where nothing is told for QUIET_SECONDS it is lifted until
something is: that shows that the source lives, and moves the cursor.

What the server does wrong. One that does not answer is left, and read without a filter after
MAX_UNANSWERED such connections. More accounts than the limit: no filter. What it tells of others
nevertheless is passed over as always.

Bounds: the DIDs of one wish, and one wish under way at a time.
"""

import json
import logging
from collections.abc import Collection

from server.core.errors import StreamBroken
from server.core.projection import WANTED_COLLECTIONS
from server.ingest.connection import Line
from server.ingest.tracked import TrackedSet

log = logging.getLogger(__name__)

# A version of the tracked set later than any: nobody is left out.
EVERYBODY = 2**63 - 1

# What is told must have been of now for so long.
SETTLE_SECONDS = 5.0
QUIET_SECONDS = 20.0
ANSWER_SECONDS = 15.0
MAX_UNANSWERED = 3


class DidFilter:
    """The wishes of one source, connection after connection. Times are monotonic."""

    def __init__(self, source: str, tracked: TrackedSet, limit: int) -> None:
        self.source = source
        self.tracked = tracked
        self.limit = limit
        # Connections in a row that ended before a wish was answered.
        self.unanswered = 0
        self._messages = 0
        self._begin(None, 0.0)

    @property
    def covered(self) -> int:
        """The version up to which whoever is tracked is told of on this connection, or the next."""
        return min(self._in_force, self._wished)

    def opened(self, line: Line, now_s: float) -> None:
        """A connection stands, and begins without a filter."""
        self._begin(line, now_s)

    def ended(self) -> None:
        """It is over. The next one begins at our cursor, and without a filter."""
        if self._wished_s is not None:
            self.unanswered += 1
            if self.unanswered == MAX_UNANSWERED:
                log.warning("source is read without a filter from now on source=%s", self.source)
        self._begin(None, 0.0)

    def tick(self, messages: int, *, is_live: bool, now_s: float) -> None:
        """Wish for what is right now; `messages` is how many have come so far.

        Raises StreamBroken when an answer is overdue.
        """
        line = self._line
        if line is None or self.unanswered >= MAX_UNANSWERED:
            return
        if messages != self._messages:
            self._messages, self._heard_s = messages, now_s
        self._note_pace(now_s, is_live=is_live)
        if self._wished_s is not None:
            if now_s - self._wished_s > ANSWER_SECONDS:
                raise StreamBroken("the filter was not acknowledged")
        elif not self._may_filter(now_s):
            if self._dids is not None:
                self._wish(line, None, now_s)
        elif self._dids is None or not self._covers_all():
            self._wish(line, frozenset(self.tracked.wants), now_s)

    def _begin(self, line: Line | None, now_s: float) -> None:
        self._line = line
        # Who was listed in the last wish, and which version that covers; None: there is no filter.
        self._dids: frozenset[str] | None = None
        self._wished = self._in_force = EVERYBODY
        self._wished_s: float | None = None
        self._messages = 0
        self._heard_s = now_s
        self._live_s: float | None = None
        self._has_settled = False

    def _note_pace(self, now_s: float, *, is_live: bool) -> None:
        if not is_live:
            self._live_s = None
        elif self._live_s is None:
            self._live_s = now_s
        elif now_s - self._live_s >= SETTLE_SECONDS:
            self._has_settled = True

    def _may_filter(self, now_s: float) -> bool:
        # An empty list would mean everybody.
        is_few = 0 < len(self.tracked.wants) <= self.limit
        return is_few and self._has_settled and now_s - self._heard_s <= QUIET_SECONDS

    def _covers_all(self) -> bool:
        """Whether the filter in force lists everybody, as most changes of the set name nobody new.

        Whoever is not tracked any more stays listed until there is somebody to add.
        """
        if self._in_force != self.tracked.version and self._dids is not None:
            if not self.tracked.wants.keys() <= self._dids:
                return False
            self._wished = self._in_force = self.tracked.version
        return True

    def _wish(self, line: Line, dids: frozenset[str] | None, now_s: float) -> None:
        self._dids, self._wished_s = dids, now_s
        self._wished = EVERYBODY if dids is None else self.tracked.version
        line.say(_options(dids or ()), self._answered)

    def _answered(self) -> None:
        self._in_force, self._wished_s, self.unanswered = self._wished, None, 0
        listed = "all" if self._dids is None else len(self._dids)
        log.debug("filter in force source=%s accounts=%s", self.source, listed)


def _options(dids: Collection[str]) -> str:
    """The wish in words. It replaces all options there were."""
    payload = {
        "wantedCollections": sorted(WANTED_COLLECTIONS),
        "wantedDids": sorted(dids),
        "maxMessageSizeBytes": 0,
    }
    return json.dumps({"type": "options_update", "payload": payload})
