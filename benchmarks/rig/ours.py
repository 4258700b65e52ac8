"""Our reader as a contender: the subscriber as it runs in service, on a database that is ready."""

import os
import threading
import time
from collections.abc import Callable

from benchmarks.rig import jetstream
from benchmarks.rig.corpus import Corpus
from benchmarks.rig.reader import Row, Task
from server.core.garbage import collect_less
from server.core.projection import KEY_TIE_BITS
from server.core.syntax import int_to_tid, tid_to_int
from server.ingest.source import source_of
from server.ingest.subscriber import Subscriber
from server.storage import leases, repos
from server.storage.authors import author_ids
from server.storage.cursors import load_cursor
from server.storage.database import database, rows, value, write_transaction
from server.storage.many_rows import insert_rows
from server.storage.migrate import migrate
from server.storage.opening import open_database
from server.storage.records import is_repost

_WAIT_SECONDS = 600
_ITEMS = """
SELECT a.did, i.rkey, o.rkey, i.id, i.flags, s.did, i.subject_rkey, r.did, i.root_rkey
FROM feed_items i JOIN authors a ON a.id = i.author_id
LEFT JOIN authors s ON s.id = i.subject_id LEFT JOIN authors r ON r.id = i.root_id
LEFT JOIN odd_rkeys o ON o.id = -i.rkey
"""


class Ours:
    """The subscriber in a thread of its own; this thread only looks at how far it came."""

    def __init__(self, task: Task, corpus: Corpus) -> None:
        source = source_of(task.url, "", task.dictionary)
        self.host = source.name
        self.last_seq, self.messages = corpus.last_seq, corpus.count
        if source.counts_time:
            self.last_seq = jetstream.last_us(corpus, task.laps)
            # As many of them, of whatever version, are nearly all.
            self.messages = corpus.events * task.laps * 9 // 10
        first_seq = corpus.start_ms * 1000 if source.counts_time else corpus.first_seq
        # To look is work too, and where there is a pace it would be most of it.
        self.poll_s = 0.5 if task.pace else 0.02
        silent = (f"did:plc:silent{number:018}" for number in range(task.silent))
        revs = {**corpus.tracked(task.percent), **dict.fromkeys(silent, "")}
        _in_a_fork(lambda: self._prepare(task.database_url, revs, first_seq, corpus.start_ms))
        open_database(task.database_url, max_connections=4)
        lease = leases.acquire("benchmark", 1)
        assert lease is not None
        self.lease = lease
        self.stop = threading.Event()
        self.subscriber = Subscriber(
            ((task.url,),), "Gapless/benchmark", lease.epoch, self.stop, task.dictionary
        )
        self.thread = threading.Thread(target=self._run)

    def connect(self) -> None:
        """Be connected, and have taken the tracked set in."""
        # As the command `ingest` does.
        collect_less()
        self.thread.start()
        self._wait(lambda: value("SELECT count(*) FROM leases WHERE connected_us IS NOT NULL"))

    def read_all(self) -> None:
        """Until the last frame's cursor is saved."""
        # To ask the database is work of this process, and not of its reader.
        (counters,) = self.subscriber.counters.values()
        self._wait(lambda: counters.messages >= self.messages)
        self._wait(lambda: (at := load_cursor(self.host)) and at.seq >= self.last_seq)

    def close(self) -> None:
        """End the reader."""
        self.stop.set()
        self.thread.join()

    def rows(self) -> list[Row]:
        """What is in the table, in words."""
        return [_row(*row) for row in rows(_ITEMS)]

    def _prepare(self, url: str, revs: dict[str, str], first_seq: int, start_ms: int) -> None:
        open_database(url, max_connections=4)
        migrate()
        prepare(self.host, revs, first_seq, start_ms)

    def _run(self) -> None:
        try:
            self.subscriber.run()
        finally:
            database.close()

    def _wait(self, claim: object) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not claim():  # type: ignore[operator]
            if not self.thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the subscriber ended, or never will")
            time.sleep(self.poll_s)


def _in_a_fork(work: Callable[[], None]) -> None:
    """In a process of its own: what the work needs of memory is not the reader's."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def prepare(host: str, revs: dict[str, str], first_seq: int, start_ms: int) -> None:
    """As after a run that ended just before the first frame: repos complete, cursor stored."""
    numbers = author_ids(revs)
    with write_transaction():
        insert_rows(
            "INSERT INTO repos (author_id, state, wants, epoch, tracked_version, rev)",
            [
                (numbers[did], repos.LIVE, repos.ITEMS, 1, place, tid_to_int(rev) if rev else 0)
                for place, (did, rev) in enumerate(revs.items(), start=1)
            ],
        )
        insert_rows(
            "INSERT INTO stream_cursors (host, seq, event_ms, written_us)",
            [(host, first_seq - 1, start_ms - 1, 1)],
        )


def _row(
    did: str,
    rkey: int,
    odd_rkey: str | None,
    key: int,
    flags: int | None,
    subject: str | None,
    subject_rkey: int | None,
    root: str | None,
    root_rkey: int | None,
) -> Row:
    kind, sort_ms = "repost" if is_repost(flags) else "post", key >> KEY_TIE_BITS
    above, top = _ref(subject, subject_rkey), _ref(root, root_rkey)
    return did, kind, odd_rkey or int_to_tid(rkey), sort_ms, flags or 0, above, top


def _ref(did: str | None, rkey: int | None) -> str | None:
    return None if did is None or rkey is None else f"{did}/{int_to_tid(rkey)}"
