"""The backfill's threads: which job runs next, how many at once, and what becomes of failures.

Promises. Every queued job is run in the end, the more urgent first, whoever else fails; a viewer's
follows are the most urgent for one turn, so that lists without end hold nobody up. One PDS holds at
most JOBS_A_HOST workers, so a slow one cannot hold them all; nor can what nobody waits for (the
rest of histories, the crowd that somebody follows by the thousand, everybody after a hole): its
turns are short (TURN_SECONDS of author.py), and when it holds all workers, there is a reserve for
what somebody waits for. Where we do not know an author's PDS, the directory is asked,
LOOKUP_SECONDS at most, JOBS_A_HOST at once where these are websites (did:web); if that PDS has its
share, the job gives its worker back, and waits for a place with its address known. A job that fails
waits, longer each time, or as long as the PDS asks; it stays in the queue, in everybody's sight.

Workers wait for PDSes; what they bring is written by one thread, many authors in a transaction
(storage/group_commit.py). So there can be many of them, and the database has one writer here.

A database that fails, or a lead that is lost, ends `run` with that exception.
"""

import logging
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event as StopEvent
from threading import Thread
from urllib.parse import urlsplit

from server.backfill.author import Backfill
from server.backfill.places import Places
from server.backfill.sources import Sources
from server.core.backoff import delay_s
from server.core.errors import FetchFailed
from server.core.metrics import IngestMetrics
from server.storage import jobs
from server.storage.crash_points import crash_point
from server.storage.group_commit import GroupCommit, one_by_one
from server.storage.jobs import Job

log = logging.getLogger(__name__)

# A host of thousands of accounts takes this well; a PDS at somebody's home is asked no faster than
# it answers.
JOBS_A_HOST = 16
# Of the workers, one in so many may do what nobody waits for while others do what somebody does.
PATIENT_SHARE = 16
# One worker in so many more, for what somebody waits for while the others do what nobody does.
RESERVE_SHARE = 8
POLL_SECONDS = 0.05
FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = jobs.LONGEST_DELAY_US / 1_000_000


class BackfillWorkers:
    """Runs queued jobs in `workers` threads, and a few more, for as long as this process leads."""

    def __init__(
        self,
        sources: Sources,
        workers: int,
        stop: StopEvent,
        metrics: IngestMetrics | None = None,
    ) -> None:
        self.writer = GroupCommit(sources.epoch)
        self.sources = replace(sources, writer=self.writer)
        self.workers = workers
        self.reserve = max(1, workers // RESERVE_SHARE)
        self.stop = stop
        self.metrics = metrics or IngestMetrics()
        self.running: dict[int, Job] = {}
        self.waiting: list[Job] = []
        self.done: SimpleQueue[tuple[Job, Future[None]]] = SimpleQueue()
        self.next_look = 0.0
        self.places = Places(JOBS_A_HOST)
        # Of those that run, how many somebody waits for.
        self.urgent = 0

    def run(self) -> None:
        """Start jobs as they come due, until stopped. Raises what a job must not survive."""
        writer = Thread(target=self.writer.run, name="backfill-writer", daemon=True)
        writer.start()
        try:
            threads = self.workers + self.reserve
            with ThreadPoolExecutor(threads, thread_name_prefix="backfill") as pool:
                try:
                    while not self.stop.is_set():
                        self._start_due(pool)
                        self._collect()
                finally:
                    # Running jobs stop at their next page: what they have committed stays.
                    self.stop.set()
        finally:
            self.writer.end()
            writer.join()

    def _start_due(self, pool: ThreadPoolExecutor) -> None:
        """Start what is due, as far as there are workers and places at its host."""
        now = time.monotonic()
        if now >= self.next_look and self._may_start_urgent():
            self.next_look = now + POLL_SECONDS
            self._look()
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            if not self._take_place(job):
                self.waiting.append(job)
                continue
            self.running[job.author_id] = job
            self.urgent += job.is_urgent
            future = pool.submit(self._run_job, job)
            future.add_done_callback(partial(self._done, job))

    def _look(self) -> None:
        """What is due and does not run, in order, and enough to go on with."""
        limit = len(self.running) + self.workers
        self.waiting = jobs.due(_now_us(), limit, self.places.full(), self.running)

    def _take_place(self, job: Job) -> bool:
        has_worker = self._may_start_urgent() if job.is_urgent else self._may_start_patient()
        return has_worker and (job.place is None or self.places.take(job.author_id, job.place))

    def _may_start_urgent(self) -> bool:
        return len(self.running) < self.workers or self.urgent < self.reserve

    def _may_start_patient(self) -> bool:
        # While somebody waits for a first page, all else may only use a part of us.
        patient = len(self.running) - self.urgent
        limit = max(1, self.workers // PATIENT_SHARE) if self.urgent else self.workers
        return len(self.running) < self.workers and patient < limit

    def _done(self, job: Job, future: Future[None]) -> None:
        self.done.put((job, future))

    def _collect(self) -> None:
        """Wait for jobs to end, a moment at most. Raises what a job must not survive."""
        with suppress(Empty):
            job, future = self.done.get(timeout=POLL_SECONDS)
            while True:
                del self.running[job.author_id]
                self.urgent -= job.is_urgent
                self.places.leave(job.author_id)
                future.result()
                job, future = self.done.get_nowait()

    def _run_job(self, job: Job) -> None:
        enter = partial(self.places.take, job.author_id)
        backfill = Backfill(job, self.sources, self.stop, enter)
        began, outcome = time.monotonic(), "ok"
        try:
            backfill.run()
        except FetchFailed as error:
            outcome = "failed"
            # What we cut short ourselves goes on at once, whoever leads next.
            if not self.stop.is_set():
                self._postpone(job, error)
        finally:
            host = _host_of(backfill.pds_url or job.pds_url or "")
            self.metrics.count_turn(host, outcome, time.monotonic() - began)

    def _postpone(self, job: Job, error: FetchFailed) -> None:
        pause_s = delay_s(job.attempts, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random)
        if error.retry_after_s is not None:
            pause_s = max(pause_s if job.attempts > 2 else 0.0, error.retry_after_s)
        log.info("backfill failed did=%s retry_s=%.0f: %s", job.did, pause_s, error)
        not_before_us = _now_us() + int(pause_s * 1_000_000)
        crash_point("failure: not yet noted")
        failed = partial(jobs.fail, job, str(error), not_before_us)
        self.sources.write(one_by_one, failed, job.author_id)
        crash_point("failure: noted")


def _host_of(url: str) -> str:
    """A host's name for metrics, of whatever a database holds: it must not end a turn."""
    try:
        return urlsplit(url).hostname or "unknown"
    except ValueError:
        return "unknown"


def _now_us() -> int:
    return time.time_ns() // 1000
