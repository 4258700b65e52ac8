"""A window of a relay's stream that never happened: signed commits of real trees, the live mix.

Beside the frames, the events in which a Jetstream tells the same to somebody who wants our
collections (rig/jetstream.py makes messages of them). The same seed gives the same bytes. What was
made is kept under benchmarks/.state/ and read from there the next time; a change of what makes it
makes a new one.
"""

import hashlib
import json
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rig.population import BLOCK, LIKE, PROFILE, Account, Population
from benchmarks.rig.records import Author
from server.core.syntax import FOLLOW, POST, REPOST
from simnet import frames
from simnet.repo import Ref, Write

STATE = Path(__file__).resolve().parents[1] / ".state"
SEED = 7
FIRST_SEQ = 30_000_000_000
START_US = 1_783_000_000_000_000

_GATE, _THIRD = "app.bsky.feed.threadgate", "fm.example.scrobble.play"
# Percent of frames. Counted in a window of the live network: likes 69, posts 12, reposts 10,
# follows 6, a third of those deletes; what is rare was filled in.
_MIX: dict[tuple[str, str], float] = {
    ("create", LIKE): 64.5,
    ("delete", LIKE): 2.5,
    ("create", POST): 11.0,
    ("delete", POST): 0.9,
    ("update", POST): 0.1,
    ("create", REPOST): 9.4,
    ("delete", REPOST): 0.4,
    ("create", FOLLOW): 4.2,
    ("delete", FOLLOW): 2.0,
    ("create", BLOCK): 1.1,
    ("update", PROFILE): 0.5,
    ("create", _GATE): 0.4,
    ("create", _THIRD): 1.6,
    ("#identity", ""): 0.7,
    ("#account", ""): 0.6,
    ("#sync", ""): 0.1,
}


_WANTED = frozenset((POST, REPOST, FOLLOW))

# An event of a Jetstream, as simnet/jetstream.py keeps it; `seq` is its time in microseconds.
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Frames in their order, and the rev that each repo had before the first of them.

    `events` and `last_us`: what a Jetstream tells are so many, and the time of the last.
    """

    count: int
    frames: list[bytes]
    revs: dict[str, str]
    events: int
    last_us: int
    first_seq: int = FIRST_SEQ
    start_us: int = START_US

    @property
    def last_seq(self) -> int:
        """The number of the last frame."""
        return self.first_seq + self.count - 1

    @property
    def start_ms(self) -> int:
        """When the first frame says it happened."""
        return self.start_us // 1000

    def tracked(self, percent: int) -> dict[str, str]:
        """The repos of so many percent of the accounts, always the same ones, with their revs."""
        return {did: rev for did, rev in self.revs.items() if _dice(did) < percent}


def load(count: int, *, with_frames: bool = True) -> Corpus:
    """A corpus of so many frames; it takes some seconds for each 10,000 to make one."""
    folder = folder_of(count)
    frames = list(_split((folder / "frames").read_bytes())) if with_frames else []
    told = json.loads((folder / "told.json").read_text())
    return Corpus(count, frames, told["revs"], told["events"], told["last_us"])


def events(count: int) -> list[Event]:
    """What a Jetstream tells of the corpus of so many frames."""
    return [json.loads(line) for line in (folder_of(count) / "events").read_text().splitlines()]


def folder_of(count: int) -> Path:
    """Where the corpus is kept; it is made if it is not there."""
    folder = STATE / f"corpus-{count}-{SEED}-{_version()}"
    if not (folder / "told.json").exists():
        _make(count, folder)
    return folder


def _dice(did: str) -> float:
    """From 0 to below 100, always the same for a DID."""
    return int.from_bytes(hashlib.sha256(did.encode()).digest()[:4]) / 2**32 * 100


def _make(count: int, folder: Path) -> None:
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    window = _Window(count)
    with (folder / "frames").open("wb") as file:
        for _ in range(count):
            frame = window.next()
            file.write(struct.pack(">I", len(frame)) + frame)
    with (folder / "events").open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in window.events)
    revs = {account.did: account.first_since for account in window.population.accounts}
    # Last: it says that all of them are there.
    told = {"revs": revs, "events": len(window.events), "last_us": window.events[-1]["seq"]}
    (folder / "told.json").write_text(json.dumps(told))
    print(f"(made {count} frames in {time.monotonic() - began:.0f} s)", flush=True)


class _Window:
    """The stream as it is told, frame by frame."""

    def __init__(self, count: int) -> None:
        self.rng = random.Random(SEED)
        self.now_us = START_US
        self.seq = FIRST_SEQ - 1
        self.population = Population(self.rng, max(count, 100), START_US)
        self.author = Author(self.rng, self.population.accounts)
        self.events: list[Event] = []
        # Accounts with something of a collection that can be deleted or edited.
        self.owners: dict[str, list[Account]] = {}

    def next(self) -> bytes:
        """The next frame."""
        self.now_us += 1 + self.rng.randrange(4_000)
        self.seq += 1
        kinds, weights = zip(*_MIX.items(), strict=True)
        action, collection = self.rng.choices(kinds, weights)[0]
        if action in ("update", "delete") and collection != PROFILE:
            return self._change(action, collection)
        account = self.population.anybody()
        if action.startswith("#"):
            return self._other(action, account)
        if collection == PROFILE:
            return self._commit(account, [Write("update", PROFILE, "self", self._record(PROFILE))])
        writes = [Write("create", collection, None, self._record(collection))]
        if collection == POST and self.rng.random() < 0.06:
            writes.append(Write("create", _GATE, None, self._record(_GATE)))
        return self._commit(account, writes)

    def _change(self, action: str, collection: str) -> bytes:
        owners = self.owners.get(collection, [])
        if not owners:
            return self._commit(self.population.anybody(), [])
        account = owners.pop(self.rng.randrange(len(owners)))
        rkey = account.written[collection][0]
        if action == "delete":
            account.forget(collection, rkey)
            return self._commit(account, [Write("delete", collection, rkey)])
        owners.append(account)
        return self._commit(account, [Write("update", collection, rkey, self._record(collection))])

    def _commit(self, account: Account, writes: list[Write]) -> bytes:
        commit, refs = account.open(self.now_us).commit(writes, self.now_us)
        for write, ref in zip(writes, refs, strict=True):
            if write.action == "create":
                account.remember(ref.collection, ref.rkey)
                self.owners.setdefault(ref.collection, []).append(account)
                if ref.collection == POST:
                    self.author.has_written(ref.uri, ref.cid)
            if ref.collection in _WANTED:
                self._tell(account, _op(account, commit.rev, write.action, ref))
        return self._frame("#commit", frames.commit(commit, self.now_us))

    def _record(self, collection: str) -> dict[str, object]:
        return self.author.record(collection, self.now_us)

    def _other(self, kind: str, account: Account) -> bytes:
        if kind == "#sync":
            head = account.open(self.now_us).head
            assert head is not None
            body = frames.sync(head, self.now_us)
        elif kind == "#account":
            body = frames.account(account.did, "active", self.now_us)
        else:
            body = frames.identity(account.did, None, self.now_us)
        inner = {key: value for key, value in body.items() if key != "blocks"}
        self._tell(account, {"kind": kind[1:], "inner": inner})
        return self._frame(kind, body)

    def _tell(self, account: Account, event: Event) -> None:
        self.events.append({"did": account.did, "seq": self.now_us, **event})

    def _frame(self, kind: str, body: frames.Body) -> bytes:
        return frames.message(kind, {**body, "seq": self.seq})


def _op(account: Account, rev: str, action: str, ref: Ref) -> Event:
    op = {"kind": "commit", "rev": rev, "operation": action}
    op |= {"collection": ref.collection, "rkey": ref.rkey}
    if action == "delete" or account.repo is None:
        return op
    stored = account.repo.get(ref.collection, ref.rkey)
    assert stored is not None
    return {**op, "record": stored.value, "cid": ref.cid}


def _split(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 4 + length]
        position += 4 + length


def _version() -> str:
    """Changes with the source of what makes the frames."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in ("corpus", "population", "records"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
