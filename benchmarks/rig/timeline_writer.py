"""What goes on being written while pages are asked for: the stream's batches, at a pace.

The made-up month goes on: its awake authors write, each as much as before; four in ten items are
replies and reposts of what came in the last minutes. The batches are committed as the service's
subscriber commits them, ten a second, by a process of its own.
"""

import multiprocessing
import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from multiprocessing.synchronize import Event

from benchmarks.rig.timeline_world import END_MS, TimelineWorld, did_of
from server.core.projection import REPLY, RecordRef, SaveItem
from server.core.syntax import POST, REPOST, int_to_tid
from server.storage import leases
from server.storage.batch import Batch, RepoCommit
from server.storage.changes import commit_batch
from server.storage.cursors import StreamCursor
from server.storage.opening import open_database

BATCHES_A_SECOND = 10
# Items that replies and reposts are about.
RECENT = 5_000


@contextmanager
def writing(url: str, world: TimelineWorld, a_second: int) -> Iterator[None]:
    """While the block runs, so many items are written a second; 0: none."""
    if a_second == 0:
        yield
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_write, args=(url, world, a_second, stop))
    process.start()
    try:
        yield
        assert process.is_alive(), "the writer ended"
    finally:
        stop.set()
        process.join()


def _write(url: str, world: TimelineWorld, a_second: int, stop: Event) -> None:
    open_database(url)
    lease = leases.acquire("benchmark", 1)
    assert lease is not None, "somebody else leads"
    commits = _commits(world)
    began, seq = time.monotonic(), 0
    while not stop.wait(max(0.0, began + seq / BATCHES_A_SECOND - time.monotonic())):
        seq += 1
        batch = Batch(commits=[next(commits) for _ in range(a_second // BATCHES_A_SECOND)])
        cursor = StreamCursor("benchmark", seq, END_MS)
        commit_batch(batch, cursor, lease.epoch, time.time_ns() // 1000)
    lease.release()


def _commits(world: TimelineWorld) -> Iterator[RepoCommit]:
    """One item a commit, each a millisecond later, from now on."""
    rng = random.Random()
    authors = [author for author in range(1, world.authors + 1) if not world.is_quiet(author)]
    weights = list(accumulate(world.weights[author - 1] for author in authors))
    recent: deque[RecordRef] = deque(maxlen=RECENT)
    now_ms = max(END_MS, time.time_ns() // 1_000_000)
    while True:
        now_ms += 1
        did = did_of(rng.choices(authors, cum_weights=weights)[0])
        rev = now_ms * 1000 << 10
        subject = rng.choice(recent) if recent and rng.random() < 0.4 else None
        collection = REPOST if subject is not None and rng.random() < 0.5 else POST
        flags = REPLY if subject is not None and collection == POST else 0
        rkey, tie = int_to_tid(rev), rng.getrandbits(18)
        item = SaveItem(collection, rkey, now_ms, now_ms, tie, flags, subject, None)
        if collection == POST:
            recent.append(RecordRef(did, rkey))
        yield RepoCommit(did, rev, 0, [item], None)
