"""One repo: records, their tree and the signed commits that follow one another.

Knows neither hosts nor streams, and takes the time as an argument.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from simnet import mst
from simnet.dag_cbor import Cid, encode, from_json
from simnet.keys import SigningKey
from simnet.tid import TidClock, tid_at

JsonRecord = dict[str, Any]


class Write(NamedTuple):
    """One change that somebody asks for; no `rkey` means a fresh TID."""

    action: Literal["create", "update", "delete"]
    collection: str
    rkey: str | None = None
    record: JsonRecord | None = None


class Ref(NamedTuple):
    """A record by name and content, a strongRef in the lexicons. `cid` is empty after a delete."""

    uri: str
    cid: str

    @property
    def did(self) -> str:
        """Whose record it is."""
        return self.uri.split("/")[2]

    @property
    def collection(self) -> str:
        """The NSID in the URI."""
        return self.uri.split("/")[3]

    @property
    def rkey(self) -> str:
        """The last part of the URI."""
        return self.uri.split("/")[4]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A live record: its JSON form, its block, and when it was first and last written."""

    ref: Ref
    value: JsonRecord
    cid: Cid
    block: bytes
    first_us: int
    written_us: int


@dataclass(frozen=True, slots=True)
class RepoOp:
    """What one write did, as a #commit event names it."""

    action: str
    path: str
    cid: Cid | None
    prev: Cid | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One signed commit with its place in the chain and the blocks an event carries."""

    did: str
    rev: str
    since: str | None
    cid: Cid
    block: bytes
    prev_data: Cid | None
    ops: tuple[RepoOp, ...]
    blocks: dict[Cid, bytes]

    @property
    def slice(self) -> bytes:
        """The CAR of an event: commit, new tree nodes, records, and what undoing them needs."""
        return car(self.cid, self.blocks)


class Repo:
    """The records of one account. Every commit is durable when `commit` returns."""

    def __init__(self, did: str, key: SigningKey, clock_id: int) -> None:
        self.did = did
        self.key = key
        self.root: mst.Node | None = None
        self.head: Commit | None = None
        self._records: dict[str, StoredRecord] = {}
        self._rkeys: dict[str, list[str]] = {}
        self._revs = TidClock(clock_id)
        self._clock_id = clock_id

    def commit(self, writes: Iterable[Write], now_us: int) -> tuple[Commit, list[Ref]]:
        """Apply the writes in order and sign the result; all or nothing is not promised.

        Raises ValueError for a create of what exists and an update or delete of what does not.
        """
        prev_data = mst.root_cid(self.root) if self.head else None
        ops, refs = [], []
        for write in writes:
            op = self._apply(write, now_us)
            ops.append(op)
            refs.append(Ref(f"at://{self.did}/{op.path}", op.cid.text if op.cid else ""))
        blocks = mst.new_blocks(self.root)
        for op in ops:
            stored = self._records.get(op.path)
            if stored is not None:
                blocks[stored.cid] = stored.block
        for op in ops:
            blocks.update(mst.proof_blocks(self.root, op.path.encode()))
        self.head = self._sign(tuple(ops), prev_data, blocks, now_us)
        return self.head, refs

    def get(self, collection: str, rkey: str) -> StoredRecord | None:
        """The live record at a path."""
        return self._records.get(f"{collection}/{rkey}")

    def records(self) -> Iterator[StoredRecord]:
        """All live records, in no order worth relying on."""
        return iter(self._records.values())

    def collections(self) -> list[str]:
        """The NSIDs that have records."""
        return sorted(name for name, rkeys in self._rkeys.items() if rkeys)

    def rkeys(self, collection: str) -> list[str]:
        """The record keys of a collection, ascending; not to be changed."""
        return self._rkeys.get(collection, [])

    def export(self) -> bytes:
        """The whole repo as a CAR: commit, tree, records."""
        if self.head is None:
            raise ValueError(f"{self.did} has no commit")
        blocks = {self.head.cid: self.head.block, **mst.all_blocks(self.root)}
        blocks.update((stored.cid, stored.block) for stored in self._records.values())
        return car(self.head.cid, blocks)

    def _apply(self, write: Write, now_us: int) -> RepoOp:
        rkey = write.rkey or self._fresh_rkey(write.collection, now_us)
        path = f"{write.collection}/{rkey}"
        old = self._records.get(path)
        if (old is None) != (write.action == "create"):
            raise ValueError(f"{write.action} of {path}, which {'exists' if old else 'is missing'}")
        if write.action == "delete":
            self.root = mst.remove(self.root, path.encode())
            self._forget(write.collection, rkey)
            return RepoOp("delete", path, None, old.cid if old else None)
        value = {"$type": write.collection, **(write.record or {})}
        block = encode(from_json(value))
        cid = Cid.of(block)
        if old is None:
            self.root = mst.insert(self.root, path.encode(), cid)
            insort(self._rkeys.setdefault(write.collection, []), rkey)
        else:
            self.root = mst.replace(self.root, path.encode(), cid)
        ref = Ref(f"at://{self.did}/{path}", cid.text)
        first_us = old.first_us if old else now_us
        self._records[path] = StoredRecord(ref, value, cid, block, first_us, now_us)
        return RepoOp(write.action, path, cid, old.cid if old else None)

    def _fresh_rkey(self, collection: str, now_us: int) -> str:
        """The TID of the moment; not a rising clock, so that a past can be written later."""
        while f"{collection}/{(rkey := tid_at(now_us, self._clock_id))}" in self._records:
            now_us += 1
        return rkey

    def _forget(self, collection: str, rkey: str) -> None:
        del self._records[f"{collection}/{rkey}"]
        rkeys = self._rkeys[collection]
        del rkeys[bisect_left(rkeys, rkey)]

    def _sign(
        self,
        ops: tuple[RepoOp, ...],
        prev_data: Cid | None,
        blocks: dict[Cid, bytes],
        now_us: int,
    ) -> Commit:
        rev = self._revs.next(now_us)
        unsigned = {
            "did": self.did,
            "version": 3,
            "data": mst.root_cid(self.root),
            "rev": rev,
            "prev": None,
        }
        block = encode({**unsigned, "sig": self.key.sign(encode(unsigned))})
        cid = Cid.of(block)
        since = self.head.rev if self.head else None
        return Commit(self.did, rev, since, cid, block, prev_data, ops, {cid: block, **blocks})


def car(root: Cid, blocks: dict[Cid, bytes]) -> bytes:
    """A CAR v1 file with one root."""
    header = encode({"roots": [root], "version": 1})
    parts = [_varint(len(header)), header]
    for cid, block in blocks.items():
        parts += (_varint(len(cid) + len(block)), cid, block)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
