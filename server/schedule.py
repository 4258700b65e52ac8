"""What has to happen now and then, by APScheduler, in the process that leads."""

import logging
import time
from collections.abc import Callable
from threading import Event as StopEvent

from apscheduler.schedulers.background import BackgroundScheduler

from server.backfill.author import Sources
from server.backfill.reconcile import Reconcile
from server.core.config import Config
from server.core.projection import sort_key
from server.storage import gaps, outside_posts, retention, rounds, tombstones
from server.storage.database import release

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
# Authors trimmed in a minute: all of 200,000 in a day.
TRIMMED_AUTHORS = 150
# Longer than any source keeps its events, and than a job may wait: nothing older can come back.
TOMBSTONE_DAYS = 30


class Schedule:
    """The recurring jobs. `run` returns when stopped, or raises what a job raised."""

    def __init__(self, config: Config, sources: Sources, stop: StopEvent) -> None:
        self.config = config
        self.stop = stop
        self.error: BaseException | None = None
        self.reconcile = Reconcile(sources, stop)

    def run(self) -> None:
        """Keep the schedule until stopped."""
        # A job that is late runs once, not as often as it was missed, and never beside itself.
        scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1}
        )
        scheduler.add_job(self._guarded(self._close_gaps), "interval", seconds=10)
        scheduler.add_job(self._guarded(self._trim), "interval", seconds=60)
        scheduler.add_job(self._guarded(self._expire), "interval", hours=1)
        scheduler.add_job(self._guarded(self.reconcile.run), "interval", seconds=60)
        scheduler.start()
        try:
            while not self.stop.wait(0.5) and self.error is None:
                pass
        finally:
            scheduler.shutdown(wait=False)
        if self.error is not None:
            raise self.error

    def _guarded(self, job: Callable[[], None]) -> Callable[[], None]:
        """A job whose failure ends the schedule, and with it the lead."""

        def run() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001  it is raised again by run()
                self.error = error
            finally:
                release()

        return run

    def _close_gaps(self) -> None:
        closed = gaps.close_healed(_now_us())
        if closed:
            log.info("gaps healed count=%d", closed)

    def _trim(self) -> None:
        before_ms = _now_us() // 1000 - self.config.retention_days * DAY_MS
        authors = retention.authors_after(rounds.load("trim").author_id, TRIMMED_AUTHORS)
        trimmed = sum(retention.trim(author, before_ms) for author in authors)
        rounds.move("trim", authors[-1] if authors else 0, _now_us())
        if trimmed:
            log.info("old items let go count=%d", trimmed)

    def _expire(self) -> None:
        now_us = _now_us()
        tombstones.expire(now_us - TOMBSTONE_DAYS * DAY_MS * 1000)
        before_ms = now_us // 1000 - self.config.retention_days * DAY_MS
        outside_posts.expire(sort_key(before_ms, 0))


def _now_us() -> int:
    return time.time_ns() // 1000
