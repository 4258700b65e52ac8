"""Identities of people who use the feeds, looked up before they are needed.

A few at a time, in rounds through all viewers of late. Web processes find the fresh rows and hardly
ever let a viewer wait for the directory. What cannot be looked up is left for the next round. Only
did:plc: the host of a did:web is the viewer's own and may be slow on purpose; its document is
looked up when its viewer comes.
"""

import time
from collections.abc import Callable
from threading import Event as StopEvent

from server.core.errors import FetchFailed
from server.identity.did import Directory
from server.identity.entry import FRESH_S
from server.storage import departures, viewers
from server.storage.authors import StoredIdentity

# A viewer is checked before a web process would do it.
CHECK_AFTER_S = FRESH_S * 3 // 4
# Whoever has not come for this long is looked up when they come back.
AWAY_S = 86_400

# Look-ups in one go, seconds for each and for all of them: with a directory that answers in 100 ms,
# ten thousand viewers are kept fresh.
MAX_LOOKUPS = 200
LOOKUP_S = 2.5
MAX_S = 30.0


class IdentityUpkeep:
    """The rounds; `check_some` is called once a minute, by one thread."""

    def __init__(
        self, directory: Directory, stop: StopEvent, now_us: Callable[[], int] | None = None
    ) -> None:
        self._directory = directory
        self._stop = stop
        self._now_us = now_us or (lambda: time.time_ns() // 1000)
        self._last_viewer = 0

    def check_some(self) -> int:
        """Look up the next few whose rows are old or doubted; how many are fresh now."""
        deadline = time.monotonic() + MAX_S
        now_us = self._now_us()
        old = viewers.with_old_identity(
            self._last_viewer,
            seen_after_us=now_us - AWAY_S * 1_000_000,
            checked_before_us=now_us - CHECK_AFTER_S * 1_000_000,
            limit=MAX_LOOKUPS,
        )
        checked = 0
        for number, did in old:
            if self._stop.is_set() or time.monotonic() > deadline:
                return checked
            self._last_viewer = number
            checked += self._check(did)
        if len(old) < MAX_LOOKUPS:
            self._last_viewer = 0
        return checked

    def _check(self, did: str) -> bool:
        # The time before the question: an answer may be older than its arrival.
        asked_us = self._now_us()
        try:
            found = self._directory.resolve(did, LOOKUP_S)
        except FetchFailed:
            return False
        departures.remember_home(
            StoredIdentity(did, found.handle, found.pds_url, found.signing_key, asked_us)
        )
        return True
