"""Looks up who follows a viewer back: see storage/follow_backs.py.

Promises. Whoever opens a feed of mutuals is looked up within a second, all whom they follow, thirty
a question; later only whom they follow anew, and what is older than a week. One question at a time,
at most QUESTIONS_A_TURN for one viewer before the next one's turn. After a failure of the AppView
the viewer comes back after a pause that grows with each; meanwhile the feed shows whom the stream
told of. Without an AppView (APPVIEW_URL=off) nobody is asked anything.
"""

import logging
import random
import time
from threading import Event as StopEvent

from server.backfill.appview import MAX_OTHERS, followers_among
from server.core.backoff import delay_s
from server.core.errors import FetchFailed
from server.identity.fetcher import Fetcher
from server.storage import follow_backs
from server.storage.follow_backs import ROUND_US, Follower
from server.storage.rkeys import encode_rkeys

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# 3,000 accounts followed: more than almost anybody has, and a few seconds' work.
QUESTIONS_A_TURN = 100
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 5.0, 600.0


class Mutuals:
    """Looks up what is due, for as long as this process leads."""

    def __init__(self, fetcher: Fetcher, appview_url: str | None, stop: StopEvent) -> None:
        self.fetcher = fetcher
        self.appview_url = appview_url
        self.stop = stop
        self.failures = 0

    def run(self) -> None:
        """One viewer after the other, until stopped. Raises DatabaseError."""
        while not self.stop.is_set():
            due = follow_backs.due(_now_us())
            if due is None:
                self.stop.wait(POLL_SECONDS)
                continue
            again_us = self._take_turn(*due)
            follow_backs.done(due[0], again_us, _now_us())

    def _take_turn(self, viewer: int, did: str) -> int:
        """Look a viewer's mutuals up; when to come back to them."""
        for _ in range(QUESTIONS_A_TURN):
            asked = follow_backs.unknown(viewer, _now_us(), MAX_OTHERS)
            if not asked or self.appview_url is None:
                return _now_us() + ROUND_US
            if self.stop.is_set():
                break
            try:
                self._ask(self.appview_url, viewer, did, asked)
            except FetchFailed as error:
                return _now_us() + self._pause(error)
            self.failures = 0
        return _now_us()

    def _ask(self, appview_url: str, viewer: int, did: str, asked: list[Follower]) -> None:
        asked_us = _now_us()
        told = followers_among(self.fetcher, appview_url, did, [one.did for one in asked])
        rkeys = encode_rkeys(rkey for rkey in told.values() if rkey is not None)
        # Whom it does not know follows nobody.
        keys = [(one.author_id, told.get(one.did)) for one in asked]
        found = {author: None if rkey is None else rkeys[rkey] for author, rkey in keys}
        follow_backs.save(viewer, found, asked_us)

    def _pause(self, error: FetchFailed) -> int:
        pause_s = delay_s(self.failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random)
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        self.failures += 1
        log.warning("mutuals not looked up retry_s=%.0f: %s", pause_s, error)
        return int(pause_s * 1_000_000)


def _now_us() -> int:
    return time.time_ns() // 1000
