"""What has to happen now and then, by APScheduler, in the process that leads.

Promises. A job that is late runs at once, and once only, however often it was missed. None waits
for longer than its interval, also when the clock is set back; then what is queued elsewhere is
brought forward within a minute (storage/set_back.py). A clock that jumps ahead, however far, costs
nothing: only what is old by the stream's time as well goes for its age. Jobs have threads of their
own: that of the schedule never waits for the database, and says when others do (storage/stalls.py).
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as StopEvent

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from server.backfill.accounts import Accounts
from server.backfill.reconcile import Reconcile
from server.backfill.sources import Sources
from server.core.config import Config
from server.core.errors import BackupFailed
from server.core.metrics import IngestMetrics
from server.core.projection import sort_key
from server.identity.upkeep import IdentityUpkeep
from server.storage import (
    backup,
    cursors,
    departures,
    follow_backs,
    gaps,
    history,
    outside_posts,
    read_positions,
    retention,
    rounds,
    set_back,
    tombstones,
    touched,
    viewers,
)
from server.storage.database import release
from server.storage.stalls import DatabaseWait

log = logging.getLogger(__name__)

MINUTE = 60.0
DAY_MS = 86_400_000
# After the start, which has other things to do first.
BACKUP_AFTER_SECONDS = 5
# Authors trimmed in a minute, and whose replies are gone through: all of 200,000 in a day.
TRIMMED_AUTHORS = 150
# Repos looked at in a minute whether anybody needs them: 200,000 in under two hours.
LOOKED_AT_REPOS = 2_000
# Slices of what nobody needs that are deleted in a minute, and seconds for all of them.
DEPARTURE_SLICES = 200
DEPARTURE_SECONDS = 20.0
GONE_VIEWERS = 20
# Longer than any source keeps its events: nothing older can come back.
TOMBSTONE_DAYS = 30


class Schedule:
    """The recurring jobs. `run` returns when stopped, or raises what a job raised."""

    def __init__(
        self,
        config: Config,
        sources: Sources,
        upkeep: IdentityUpkeep,
        stop: StopEvent,
        metrics: IngestMetrics,
        waits: Sequence[DatabaseWait] = (),
    ) -> None:
        """`waits`: those of the threads that must not be kept waiting without a word."""
        self.config = config
        self.metrics = metrics
        self.waits = waits
        self.epoch = sources.epoch
        self.upkeep = upkeep
        self.stop = stop
        self.error: BaseException | None = None
        # Of what is noted for web processes: the place at the last `_forget_touched`.
        self.heard = 0
        self.accounts = Accounts(sources, stop)
        self.reconcile = Reconcile(sources, stop)

    def run(self) -> None:
        """Keep the schedule until stopped."""
        scheduler = BackgroundScheduler(
            timezone="UTC",
            # Never beside itself; and APScheduler's own word is that a second is too late to run.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        scheduler.add_job(self._guarded(self._close_gaps), _Every(10))
        scheduler.add_job(
            self._guarded(self._note),
            _Every(history.SAMPLE_SECONDS),
            next_run_time=datetime.now(UTC),
        )
        scheduler.add_job(self._guarded(self._bring_forward), _Every(MINUTE))
        scheduler.add_job(self._guarded(self._trim), _Every(MINUTE))
        scheduler.add_job(self._guarded(self._let_go), _Every(MINUTE))
        scheduler.add_job(self._guarded(self._forget_touched), _Every(MINUTE))
        scheduler.add_job(self._guarded(self._expire), _Every(3600))
        if self.config.backup_dir is not None:
            scheduler.add_job(
                self._guarded(self._back_up),
                _Every(600),
                next_run_time=datetime.now(UTC) + timedelta(seconds=BACKUP_AFTER_SECONDS),
            )
        scheduler.add_job(self._guarded(self.accounts.run), _Every(MINUTE))
        scheduler.add_job(self._guarded(self.reconcile.run), _Every(MINUTE))
        scheduler.add_job(self._guarded(self._check_identities), _Every(MINUTE))
        scheduler.start()
        try:
            while not self.stop.wait(0.5) and self.error is None:
                _follow_clock(scheduler)
                self._look_who_waits()
        finally:
            scheduler.shutdown(wait=False)
        if self.error is not None:
            raise self.error

    def _look_who_waits(self) -> None:
        for wait in self.waits:
            self.metrics.database_wait.labels(wait.who).set(wait.look())

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

    def _check_identities(self) -> None:
        self.upkeep.check_some()

    def _note(self) -> None:
        history.note(sum(self.metrics.frames.copy().values()), _now_us())

    def _bring_forward(self) -> None:
        brought = set_back.bring_forward(_now_us())
        if brought:
            log.warning("the clock was set back, what waits is brought forward count=%d", brought)

    def _trim(self) -> None:
        before_ms = _age_us() // 1000 - self.config.retention_days * DAY_MS
        authors = retention.authors_after(rounds.load("trim").author_id, TRIMMED_AUTHORS)
        trimmed = 0
        for author in authors:
            trimmed += retention.trim(author, before_ms)
            outside_posts.want_again(author, sort_key(max(before_ms, 0), 0))
        rounds.move("trim", authors[-1] if authors else 0, _now_us())
        if trimmed:
            log.info("old items let go count=%d", trimmed)

    def _let_go(self) -> None:
        now_us, age_us = _now_us(), _age_us()
        before_us = age_us - self.config.viewer_days * DAY_MS * 1000
        # In turn: some of them may be fetched for ever.
        gone = viewers.gone_since(before_us, GONE_VIEWERS, rounds.load("gone").author_id)
        rounds.move("gone", gone[-1] if len(gone) == GONE_VIEWERS else 0, now_us)
        parted = sum(
            departures.part_with_viewer(number, before_us, self.epoch, now_us) for number in gone
        )
        if parted:
            log.info("viewers let go count=%d", parted)
        after = rounds.load("lonely").author_id
        rounds.move("lonely", departures.note_lonely(after, LOOKED_AT_REPOS, now_us), now_us)
        self._depart(age_us, now_us)

    def _depart(self, due_us: int, now_us: int) -> None:
        until = time.monotonic() + DEPARTURE_SECONDS
        slices = DEPARTURE_SLICES
        for number in departures.due(due_us, DEPARTURE_SLICES):
            while slices > 0 and time.monotonic() < until and not self.stop.is_set():
                slices -= 1
                if not departures.depart(number, self.epoch, now_us):
                    break

    def _forget_touched(self) -> None:
        """What was noted before the last minute: processes that answer anybody have heard it."""
        touched.forget(self.heard)
        self.heard = touched.place_of_now()

    def _expire(self) -> None:
        age_us = _age_us()
        tombstones.expire(age_us - TOMBSTONE_DAYS * DAY_MS * 1000)
        before_ms = age_us // 1000 - self.config.retention_days * DAY_MS
        gaps.expire(before_ms * 1000)
        outside_posts.expire(sort_key(before_ms, 0))
        read_positions.expire(before_ms * 1000)
        follow_backs.expire(age_us)

    def _back_up(self) -> None:
        """Make a backup if the newest one is old enough. That it fails is no reason to stop."""
        folder = Path(str(self.config.backup_dir))
        now_us = _now_us()
        try:
            age_s = now_us // 1_000_000 - backup.newest_s(folder, now_us)
            if age_s >= self.config.backup_hours * 3600:
                made = backup.back_up(folder, self.config.backup_keep, now_us)
                log.info("backup made path=%s bytes=%d", made.path, made.bytes)
        except BackupFailed as error:
            log.error("backup failed: %s", error)  # noqa: TRY400  it says it all
        # There is a number from here on, 0 at first, also where the folder cannot be looked into.
        timestamp = self.metrics.backup_timestamp.labels("sqlite")
        with suppress(BackupFailed):
            timestamp.set(backup.newest_s(folder, now_us))


class _Every(IntervalTrigger):  # type: ignore[misc]
    """At intervals, but never at a time that is over.

    APScheduler lists every run that a late job has missed before it runs it once. After a clock's
    jump of a year these are millions, and nothing else of the schedule goes on meanwhile.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds=seconds, timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        following: datetime = super().get_next_fire_time(previous_fire_time, now)
        # Later than now, or the list would never end.
        return following if following > now else now + self.interval


def _follow_clock(scheduler: BackgroundScheduler) -> None:
    """Where the clock was set back, bring forward what would wait until it has caught up."""
    for job in scheduler.get_jobs():
        latest = datetime.now(UTC) + job.trigger.interval
        if job.next_run_time > latest + timedelta(seconds=1):
            job.modify(next_run_time=latest)


def _age_us() -> int:
    """The time by which things are old enough to go; 0 before the first event.

    What goes for its age does not come back when the clock is right again. So it is no later than
    the stream is.
    """
    place = cursors.load_position()
    return 0 if place is None else min(place.event_ms * 1000, _now_us())


def _now_us() -> int:
    return time.time_ns() // 1000
