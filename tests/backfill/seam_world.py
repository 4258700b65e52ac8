"""A repo, the stream that tells of it late, and a backfill that reads it: in any order.

Everything runs in one thread. The real backfill asks a PDS that, before and after each answer, lets
other things happen: commits, deliveries, lost events, resets, crashes. So one seed is one
interleaving, and a failing one can be run again.
"""

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event as StopEvent

from server.backfill.author import Backfill
from server.backfill.sources import Sources
from server.core.errors import FetchFailed
from server.core.events import RecordOp
from server.core.projection import project_op
from server.core.syntax import FOLLOW, POST, REPOST, int_to_tid
from server.identity.did import Identity
from server.ingest.tracked import TrackedSet
from server.storage import jobs, leases, repos
from server.storage.batch import Batch, RepoCommit
from server.storage.changes import commit_batch, commit_gap
from server.storage.cursors import StreamCursor
from server.storage.database import rows, value, write_transaction
from server.storage.jobs import Job
from server.storage.records import is_repost
from server.storage.rkeys import decode_rkeys
from tests.builders import HOST, NOW_MS, NOW_US, cid_text, did, iso, new_epoch, raw_cid, track, wipe

AUTHOR = did("author")
FIRST_RECORDS, PAGE_RECORDS = 1, 2
FAR_FUTURE_US = NOW_US * 2


class Crash(Exception):
    """The process died here."""


@dataclass(slots=True)
class Repo:
    """What the PDS holds; each version of a record names itself in what it replies to or reposts.

    Keys come from a small set, so that they are used again.
    """

    rkeys: list[str]
    records: dict[tuple[str, str], int] = field(default_factory=dict)
    rev: int = 0
    # Of all commits, also of those that the repo was put back before.
    last_rev: int = 0
    versions: int = 0

    def change(self, rng: random.Random) -> list[RecordOp]:
        """Some changes of one commit, made here at once."""
        ops = []
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            path = (rng.choice((POST, POST, REPOST, FOLLOW)), rng.choice(self.rkeys))
            if path in self.records and rng.random() < 0.6:
                del self.records[path]
                ops.append(RecordOp(*path, None, None))
                # A key may be used again in the very commit that freed it.
                if rng.random() < 0.7:
                    continue
            self.versions += 1
            self.records[path] = self.versions
            ops.append(RecordOp(*path, raw_cid(self.versions), record_of(path[0], self.versions)))
        return ops


def record_of(collection: str, version: int) -> dict[str, object]:
    """A record in which the version can be found again."""
    created = iso(NOW_MS - version)
    if collection == FOLLOW:
        return {"subject": did(f"friend{version}"), "createdAt": created}
    uri = f"at://{did('somebody')}/{POST}/{int_to_tid(version)}"
    ref = {"uri": uri, "cid": cid_text(raw_cid(0))}
    if collection == REPOST:
        return {"subject": ref, "createdAt": created}
    return {"text": "", "reply": {"root": ref, "parent": ref}, "createdAt": created}


class SeamWorld:
    """One author, tracked from the start. `rkeys` are the keys that records may have."""

    def __init__(self, seed: int, rkeys: list[str], backfill_days: int) -> None:
        wipe()
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        # How much happens before it gets quiet.
        self.steps = 25
        # What may happen besides.
        self.more: tuple[Callable[[], object], ...] = ()
        self.epoch = new_epoch()
        self.repo = Repo(rkeys)
        self.waiting: deque[RepoCommit] = deque()
        self.tracked = TrackedSet()
        self.seq = 0
        self.last_told = 0
        self.sources = Sources(self, self, backfill_days, 3650, self.epoch)  # type: ignore[arg-type]
        # A repo is made by its first commit, so it has a rev before anybody can follow it.
        for _ in range(self.rng.randint(1, 5)):
            self.commit()
        self.waiting.clear()
        # The repos of viewers are opened in steps, all others in one.
        self.wants = self.rng.choice((repos.ITEMS, repos.ITEMS | repos.FOLLOWS))
        track("author", wants=self.wants)

    def wanted(self) -> dict[tuple[str, str], int]:
        """The records that we should hold: follows only of viewers."""
        return {
            path: version
            for path, version in self.repo.records.items()
            if self.wants & repos.FOLLOWS or path[0] != FOLLOW
        }

    def run(self) -> None:
        """Let things happen, and then come to rest."""
        while self.steps > 0:
            self.something()
            try:
                self.backfill()
            except Crash:
                continue
        self.settle()

    def something(self) -> None:
        """One thing that happens, or none."""
        self.steps -= 1
        doing = (self.commit, self.deliver, self.confirm, self.lose, self.reset, self.sync)
        self.rng.choices((*doing, *self.more), (10, 8, 5, 1, 1, 1, *(2 for _ in self.more)))[0]()

    def perhaps(self) -> None:
        """A few things that happen while the backfill waits for something; or its end."""
        while self.steps > 0 and self.rng.random() < 0.5:
            self.something()
        if self.steps > 0 and self.rng.random() < 0.04:
            raise Crash

    def commit(self) -> None:
        """The PDS has it at once; the stream tells later."""
        since = self.repo.rev
        self.repo.rev = self.repo.last_rev = self.repo.last_rev + self.rng.randint(1, 3)
        ops = self.repo.change(self.rng)
        changes = [project_op(op, NOW_MS) for op in ops]
        hole = "tooBig" if ops and self.rng.random() < 0.03 else None
        kept = [] if hole else [change for change in changes if change is not None]
        self.waiting.append(RepoCommit(AUTHOR, self.repo.rev, since, kept, hole))

    def deliver(self) -> None:
        """Some of what waits, as one batch; of whom we do not track yet, nothing is read."""
        batch, count = Batch(), self.rng.randint(1, 4)
        told = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        if AUTHOR in self.tracked.wants:
            for one in told:
                self.tell(batch, one)
        self._save(batch, self.seq + len(told))

    def tell(self, batch: Batch, one: RepoCommit) -> None:
        """One thing that waited."""
        batch.add_commit(one)

    def confirm(self) -> None:
        """The stream's reader takes new repos in, and says so."""
        self.tracked.refresh()
        leases.confirm(self.epoch, self.tracked.version)

    def lose(self) -> None:
        """The stream never tells of the next commit. Only a later one can show that."""
        if self.waiting:
            self.waiting.popleft()

    def reset(self) -> None:
        """A hole of everybody: the source came back after a while."""
        for _ in range(self.rng.randrange(3)):
            self.lose()
        commit_gap(HOST, "test", 0, 1, self.epoch, NOW_US)

    def sync(self) -> None:
        """The stream says that the repo was reset."""
        self._save(Batch(resets={AUTHOR}), self.seq + 1)

    def event_ms(self) -> int:
        """The time of the newest event that was told."""
        return NOW_MS

    def _save(self, batch: Batch, seq: int) -> None:
        cursor = StreamCursor(HOST, seq, self.event_ms())
        if self.rng.random() < 0.1:
            self._die_saving(batch, cursor)
        commit_batch(batch, cursor, self.epoch, NOW_US)
        if self.rng.random() < 0.1:
            commit_batch(batch, cursor, self.epoch, NOW_US)
        self.seq = seq

    def _die_saving(self, batch: Batch, cursor: StreamCursor) -> None:
        """The process died before the transaction was over: as if it had never been."""
        with suppress(Crash), write_transaction():
            commit_batch(batch, cursor, self.epoch, NOW_US)
            raise Crash

    def backfill(self) -> bool:
        """One turn of the author's job, if there is one."""
        job = self.job()
        if job is None:
            return False
        try:
            Backfill(job, self.sources, StopEvent()).run()
        except FetchFailed as failed:
            # The stream was ahead of what was read; the job is tried again, as the workers do.
            jobs.fail(job, str(failed), NOW_US)
        return True

    def job(self) -> Job | None:
        due = jobs.due(FAR_FUTURE_US, 1000, ())
        return next((job for job in due if job.did == AUTHOR), None)

    def settle(self) -> None:
        """No more changes."""
        self.steps = 0
        self.confirm()
        # What was lost last shows in the commit after it.
        self.commit()
        self.come_to_rest()

    def come_to_rest(self) -> None:
        """Everything is told, and fetched, until nothing is left to do."""
        for _ in range(20):
            while self.waiting:
                self.deliver()
            self.confirm()
            if not self.backfill():
                break
        else:
            raise AssertionError("it does not come to rest")

    # The part of the fetcher and of the directory that a backfill uses.

    def resolve(self, of: str, deadline_s: float) -> Identity:
        return Identity(of, None, "https://pds.test", None)

    def get_json(self, url: str, params: dict[str, str], **bounds: object) -> object:
        self.perhaps()
        answer = self._answer(url.rsplit("/", 1)[1], params)
        self.perhaps()
        return answer

    def _answer(self, method: str, params: dict[str, str]) -> object:
        if method == "com.atproto.sync.getLatestCommit":
            return {"rev": int_to_tid(self.repo.rev)}
        collection, below = params["collection"], params.get("cursor")
        found = sorted((r for c, r in self.repo.records if c == collection), reverse=True)
        page = [r for r in found if below is None or r < below][: int(params["limit"])]
        listed = [
            {
                "uri": f"at://{AUTHOR}/{collection}/{rkey}",
                "cid": cid_text(raw_cid(self.repo.records[collection, rkey])),
                "value": record_of(collection, self.repo.records[collection, rkey]),
            }
            for rkey in page
        ]
        return {"records": listed, **({"cursor": page[-1]} if page else {})}


def stored_versions() -> dict[tuple[str, str], int]:
    """Our rows of the author as the repo would show them: path to version."""
    number = value("SELECT id FROM authors WHERE did = ?", (AUTHOR,))
    found = rows("SELECT flags, rkey, subject_rkey FROM feed_items WHERE author_id = ?", (number,))
    versions = {(REPOST if is_repost(row[0]) else POST, row[1]): row[2] for row in found}
    friends = {did(f"friend{version}"): version for version in range(300)}
    follows = rows(
        "SELECT f.rkey, a.did FROM follows f JOIN authors a ON a.id = f.subject_id"
        " WHERE f.viewer_id = ?",
        (number,),
    )
    versions |= {(FOLLOW, rkey): friends[of] for rkey, of in follows}
    texts = decode_rkeys({rkey for _, rkey in versions})
    return {(collection, texts[rkey]): version for (collection, rkey), version in versions.items()}


def author_state() -> tuple[int, int]:
    """State and rev of the author's repo."""
    return rows(
        "SELECT r.state, r.rev FROM repos r JOIN authors a ON a.id = r.author_id WHERE a.did = ?",
        (AUTHOR,),
    )[0]


def horizon() -> str:
    """The least record key down to which the author is complete."""
    found = value(
        "SELECT r.horizon_rkey FROM repos r JOIN authors a ON a.id = r.author_id WHERE a.did = ?",
        (AUTHOR,),
    )
    return int_to_tid(found)
