"""The backfill's threads: which job runs next, how many at once, and what becomes of failures.

Promises. Every queued job is run in the end, the more urgent first, whoever else fails. One PDS
holds at most JOBS_A_HOST workers, so a slow one cannot hold them all. A job that fails waits,
longer each time, or as long as the PDS asks; it stays in the queue, in everybody's sight.

A database that fails, or a lead that is lost, ends `run` with that exception.
"""

import logging
import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event as StopEvent

from server.backfill.author import Backfill, Sources
from server.core.backoff import delay_s
from server.core.errors import FetchFailed
from server.storage import jobs
from server.storage.database import release
from server.storage.jobs import Job

log = logging.getLogger(__name__)

# A host of thousands of accounts takes this well; a PDS at somebody's home is asked no faster than
# it answers.
JOBS_A_HOST = 8
POLL_SECONDS = 0.1
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 5.0, 3600.0


class BackfillWorkers:
    """Runs queued jobs in `workers` threads for as long as this process leads."""

    def __init__(self, sources: Sources, workers: int, stop: StopEvent) -> None:
        self.sources = sources
        self.workers = workers
        self.stop = stop
        self.running: dict[Future[None], Job] = {}

    def run(self) -> None:
        """Start jobs as they come due, until stopped. Raises what a job must not survive."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="backfill") as pool:
            try:
                while not self.stop.is_set():
                    self._start_due(pool)
                    self._collect()
            finally:
                # Running jobs stop at their next page: what they have committed stays.
                self.stop.set()

    def _start_due(self, pool: ThreadPoolExecutor) -> None:
        free = self.workers - len(self.running)
        if free == 0:
            return
        hosts = Counter(job.pds_url for job in self.running.values() if job.pds_url is not None)
        busy = [host for host, count in hosts.items() if count >= JOBS_A_HOST]
        taken = {job.author_id for job in self.running.values()}
        # Some of the first ones may be running: ask for as many more.
        for job in jobs.due(_now_us(), free + len(taken), busy):
            host = job.pds_url or ""
            if job.author_id in taken or free == 0 or (host and hosts[host] >= JOBS_A_HOST):
                continue
            hosts[host] += 1
            free -= 1
            self.running[pool.submit(self._run_job, job)] = job

    def _collect(self) -> None:
        if not self.running:
            self.stop.wait(POLL_SECONDS)
            return
        done, _ = wait(self.running, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        for future in done:
            del self.running[future]
            future.result()

    def _run_job(self, job: Job) -> None:
        try:
            Backfill(job, self.sources, self.stop).run()
        except FetchFailed as error:
            self._postpone(job, error)
        finally:
            release()

    def _postpone(self, job: Job, error: FetchFailed) -> None:
        pause_s = delay_s(job.attempts, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random)
        if error.retry_after_s is not None:
            pause_s = max(pause_s if job.attempts > 2 else 0.0, error.retry_after_s)
        log.info("backfill failed did=%s retry_s=%.0f: %s", job.did, pause_s, error)
        jobs.fail(job, str(error), _now_us() + int(pause_s * 1_000_000))


def _now_us() -> int:
    return time.time_ns() // 1000
