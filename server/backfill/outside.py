"""Looks up the posts of strangers that replies hang on: see storage/outside_posts.py.

A courtesy to Following's rule for replies, so it takes second place everywhere: few at a time, a
short patience, a handful of tries; what cannot be found out stays UNKNOWN, and the rule goes by the
rest. Strangers' servers get one question for each post, once, while they answer it.

A post is MISSING by the word of the PDS that the directory names now, and only if that names what
is missing: a proxy without its server says 404 as well, and so does a PDS that was left.
"""

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event as StopEvent

from server.backfill.locate import NOT_LISTED, look_up_pds
from server.backfill.pds import get_record, latest_rev
from server.backfill.sources import STATUSES, Sources
from server.core.backoff import delay_s
from server.core.errors import BadRecord, FetchFailed, NotFound
from server.core.projection import SaveItem, project_record
from server.core.syntax import POST
from server.storage import authors, outside_posts
from server.storage.database import release
from server.storage.outside_posts import MISSING, THERE, UNKNOWN, OutsidePost
from server.storage.rkeys import decode_rkeys

log = logging.getLogger(__name__)

WORKERS = 8
# A round is this many posts, so one slow server delays the others by its deadline at most.
ROUND_POSTS = 32
POLL_SECONDS = 0.5
MAX_ATTEMPTS = 5
FIRST_DELAY_SECONDS = 10.0
LONGEST_DELAY_SECONDS = outside_posts.LONGEST_DELAY_US / 1_000_000


class OutsidePosts:
    """Looks up what is queued, for as long as this process leads."""

    def __init__(self, sources: Sources, stop: StopEvent) -> None:
        self.sources = sources
        self.stop = stop

    def run(self) -> None:
        """Rounds of look-ups until stopped. Raises DatabaseError."""
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="outside") as pool:
            while not self.stop.is_set():
                due = outside_posts.due(_now_us(), ROUND_POSTS)
                if not due:
                    self.stop.wait(POLL_SECONDS)
                for _ in pool.map(self._look_up, due):
                    pass

    def _look_up(self, post: OutsidePost) -> None:
        if self.stop.is_set():
            return
        try:
            state, parent = self._ask(post)
        except FetchFailed as error:
            self._postpone(post, error)
        else:
            parent_id = None if parent is None else authors.author_ids([parent])[parent]
            outside_posts.settle(post, state, parent_id)
        finally:
            release()

    def _ask(self, post: OutsidePost) -> tuple[int, str | None]:
        # After a failure it may be the address that is wrong.
        if post.pds_url is not None and post.attempts == 0:
            with suppress(NotFound, BadRecord):
                return THERE, self._parent(post, post.pds_url)
        try:
            home = look_up_pds(self.sources.directory, post.did)
        except NotFound as gone:
            if gone.name == NOT_LISTED:
                raise FetchFailed(f"the account may be gone: {gone}") from gone
            return MISSING, None
        try:
            return THERE, self._parent(post, home)
        except BadRecord:
            return MISSING, None
        except NotFound as gone:
            if not self._is_named(post, home, gone):
                raise FetchFailed(f"the PDS refuses: {gone}") from gone
            return MISSING, None

    def _parent(self, post: OutsidePost, home: str) -> str | None:
        """Whom the post replies to. Raises NotFound or BadRecord where there is no such post."""
        rkey = decode_rkeys([post.rkey])[post.rkey]
        value = get_record(self.sources.fetcher, home, post.did, POST, rkey)
        record = project_record(POST, rkey, 0, value, _now_us() // 1000)
        is_reply = isinstance(record, SaveItem) and record.subject is not None
        return record.subject.did if is_reply else None  # type: ignore[union-attr]

    def _is_named(self, post: OutsidePost, home: str, gone: NotFound) -> bool:
        """Whether the PDS names the record or its repo as not there."""
        if gone.name == "RecordNotFound" or gone.name in STATUSES:
            return True
        # Of a repo that is not shown, getRecord says InvalidRequest, and this gives the reason.
        try:
            latest_rev(self.sources.fetcher, home, post.did)
        except NotFound as named:
            return named.name in STATUSES
        return False

    def _postpone(self, post: OutsidePost, error: FetchFailed) -> None:
        if post.attempts + 1 >= MAX_ATTEMPTS:
            log.info("outside post unknown did=%s: %s", post.did, error)
            outside_posts.settle(post, UNKNOWN, None)
            return
        pause_s = delay_s(post.attempts, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random)
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        outside_posts.postpone(post, _now_us() + int(pause_s * 1_000_000))


def _now_us() -> int:
    return time.time_ns() // 1000
