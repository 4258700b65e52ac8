"""The ingest process: it waits for the lead, and while it has it, reads, fetches and keeps house.

Any number of these processes may run: one leads, the others stand by and take over within a second
of its end. A thread that dies takes the lead with it: everything stops, the lead is released, and
after a pause this process (or another) starts afresh from what the database says. So a broken
database stops us, and nothing is half alive.
"""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from threading import Event as StopEvent

from prometheus_client import generate_latest

from server.backfill.mutuals import Mutuals
from server.backfill.outside import OutsidePosts
from server.backfill.sources import Sources
from server.backfill.worker import BackfillWorkers
from server.core.backoff import delay_s
from server.core.config import Config
from server.core.metrics import IngestMetrics
from server.identity.did import Directory
from server.identity.upkeep import IdentityUpkeep
from server.ingest.subscriber import Subscriber
from server.outgoing import make_fetcher
from server.schedule import Schedule
from server.storage import exported_metrics, leases
from server.storage.database import DatabaseError, close_database, release
from server.storage.leases import Lease
from server.version import user_agent

log = logging.getLogger(__name__)

STANDBY_SECONDS = 0.5
# How often a leader asks whether it still is one, and shows what it has counted.
CHECK_SECONDS = 5.0
# How long threads may take to end. Stopping the process must be over within 10 s.
JOIN_SECONDS = 4.0
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0


def run_ingest(config: Config, stop: StopEvent) -> None:
    """Stand by or lead until `stop` is set."""
    failures = 0
    is_standing_by = False
    while not stop.is_set():
        try:
            lease = leases.acquire(_holder(), time.time_ns() // 1000)
            if lease is None:
                if not is_standing_by:
                    log.info("standing by: another ingest process leads")
                is_standing_by = True
                stop.wait(STANDBY_SECONDS)
                continue
            is_standing_by = False
            began = time.monotonic()
            _Lead(config, lease, stop).run()
            failures = 0 if time.monotonic() - began > LONGEST_DELAY_SECONDS else failures
        except DatabaseError as error:
            log.error("the database failed: %s", error)  # noqa: TRY400  the driver says it all
        close_database()
        pause_s = delay_s(failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, random.random)
        failures += 1
        stop.wait(pause_s)


class _Lead:
    """One term: the threads that only a leader has."""

    def __init__(self, config: Config, lease: Lease, stop: StopEvent) -> None:
        self.lease = lease
        self.stop = stop
        self.end = StopEvent()
        self.errors: list[BaseException] = []
        fetcher = make_fetcher(config)
        directory = Directory(config.plc_url, fetcher)
        sources = Sources(
            fetcher, directory, config.backfill_days, config.retention_days, lease.epoch
        )
        agent = user_agent(config)
        self.metrics = IngestMetrics()
        subscriber = Subscriber(
            config.stream_urls,
            agent,
            lease.epoch,
            self.end,
            config.jetstream_dictionary,
            self.metrics,
            config.jetstream_filter_dids,
        )
        upkeep = IdentityUpkeep(directory, self.end)
        workers = BackfillWorkers(sources, config.backfill_workers, self.end, self.metrics)
        waits = (subscriber.wait, workers.writer.wait)
        schedule = Schedule(config, sources, upkeep, self.end, self.metrics, waits)
        self.threads = [
            threading.Thread(target=self._body, args=(name, body), name=name, daemon=True)
            for name, body in (
                ("subscriber", subscriber.run),
                ("backfill", workers.run),
                ("outside", OutsidePosts(sources, self.end).run),
                ("mutuals", Mutuals(fetcher, config.appview_url, self.end).run),
                ("schedule", schedule.run),
            )
        ]

    def run(self) -> None:
        log.info("leading epoch=%d", self.lease.epoch)
        for thread in self.threads:
            thread.start()
        try:
            next_check = time.monotonic() + CHECK_SECONDS
            while not self.end.is_set() and not self.stop.wait(0.1):
                if time.monotonic() >= next_check:
                    next_check = time.monotonic() + CHECK_SECONDS
                    if not self.lease.is_held():
                        log.error("the lead was lost: the database dropped our lock")
                        break
                    self._export_metrics()
        finally:
            self._finish()

    def _export_metrics(self) -> None:
        text = generate_latest(self.metrics.registry).decode()
        exported_metrics.save(text, self.lease.epoch, time.time_ns() // 1000)

    def _finish(self) -> None:
        self.end.set()
        until = time.monotonic() + JOIN_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.lease.release()
        late = [thread.name for thread in self.threads if thread.is_alive()]
        if late:
            # Whatever they still try to write is fenced by the epoch.
            log.warning("threads did not end in time: %s", ", ".join(late))

    def _body(self, name: str, body: Callable[[], None]) -> None:
        try:
            body()
        except DatabaseError as error:
            log.error("thread failed name=%s: the database: %s", name, error)  # noqa: TRY400
        except Exception:
            log.exception("thread failed name=%s", name)
        finally:
            self.end.set()
            release()


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
