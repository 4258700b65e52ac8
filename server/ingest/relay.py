"""Frames of com.atproto.sync.subscribeRepos. A frame about nobody we track is hardly looked at.

Pure. Of most frames the head tells that there is nothing in them for us (relay_head.py); the rest
are decoded, loosely where they must be (loose_cbor.py), and so are records: the AppView reads texts
that are no UTF-8, and keys in any order. `decode_frame` never trusts a length or a type: what it
cannot read is BadFrame when even the repo is unknown, and otherwise an event that says which repo
has a hole. Of a commit's CAR, only the blocks of wanted records are opened, found by walking the
length prefixes; each is checked against its CID. (protocol: sync and event-stream specifications.)

Bounds of a record: _MAX_CLAIMED, and _MAX_ITEMS where it is read loosely. libipld makes room for
each list and map as long as it claims to be, and one in another may all claim to be as long as the
block.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import libipld

from server.core.errors import BadFrame, StreamBroken
from server.core.events import Account, Commit, Event, Identity, Info, RecordOp, Skipped, Sync
from server.core.projection import WANTED_COLLECTIONS
from server.core.syntax import datetime_ms, is_rkey, is_tid, tid_to_int
from server.ingest.loose_cbor import read_loosely
from server.ingest.relay_head import skip

# The header of each kind as everybody encodes it (DAG-CBOR has one form). Others are decoded.
_HEADERS = {
    b"\xa2at" + bytes((0x60 | len(kind),)) + kind.encode() + b"bop\x01": kind
    for kind in ("#commit", "#sync", "#identity", "#account", "#info")
}
_COMMIT_HEADER = b"\xa2atg#commitbop\x01"
_MAX_OPS = 1000
_CID_BYTES = 36
# Where a list or map of more than 23 may begin: nowhere else is room made that is not filled. Such
# bytes are in texts as well, in half a post of the longest there are.
_LONG = re.compile(rb"[\x98-\x9b\xb8-\xbb]")
# How much room a block may have made for it: what 4 ms are enough for.
_MAX_CLAIMED = 1_000_000
# In a record: a post with pictures and links has a hundred.
_MAX_ITEMS = 2_000
_STATUS = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SourceError(StreamBroken):
    """An error frame: the source says why it will not go on, e.g. FutureCursor."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"the source says {name}: {message}")
        self.name = name


def decode_frame(frame: bytes | str, wants: Mapping[str, int]) -> Event:
    """One event. `wants` holds the tracked repos (storage/repos.py: ITEMS, FOLLOWS).

    Raises BadFrame for what nobody can read, and SourceError for an error frame.
    """
    if isinstance(frame, str):
        raise BadFrame("a text frame")
    return skip(frame, wants) or decode_whole(frame, wants)


def decode_whole(frame: bytes, wants: Mapping[str, int]) -> Event:
    """The same without a look at the head first: every frame is decoded."""
    kind, body = _split(frame)
    if kind == "#info":
        return Info(str(body.get("name")))
    seq, time_ms = body.get("seq"), datetime_ms(body.get("time"))
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**63:
        # Without a number it has no place in the stream: kinds of the future may be like that.
        if kind in _HEADERS.values():
            raise BadFrame(f"{kind} without a number")
        return Info(kind)
    if time_ms is None:
        time_ms = 0
    if kind == "#commit":
        return _commit(body, seq, time_ms, wants)
    did = body.get("did")
    if not isinstance(did, str) or did not in wants:
        return Skipped(seq, time_ms)
    return _about_repo(kind, body, seq, time_ms, did)


def _split(frame: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        if frame.startswith(_COMMIT_HEADER):
            kind, body = "#commit", libipld.decode_dag_cbor(frame[len(_COMMIT_HEADER) :])
        else:
            kind, body = _split_slowly(frame)
    # libipld raises ValueError, and other kinds of it for depth and for numbers out of range.
    except (ValueError, TypeError, OverflowError, RecursionError, LookupError) as error:
        kind, body = _split_loosely(frame, error)
    if not isinstance(body, dict):
        raise BadFrame("the body is no object")
    return kind, body


def _split_slowly(frame: bytes) -> tuple[str, Any]:
    parts = libipld.decode_dag_cbor_multi(frame)
    if len(parts) != 2 or not isinstance(parts[0], dict):
        raise ValueError(f"{len(parts)} objects")
    header, body = parts
    if header.get("op") == -1:
        name = body.get("error") if isinstance(body, dict) else None
        text = body.get("message") if isinstance(body, dict) else None
        raise SourceError(str(name or "an error"), str(text or "no message")[:200])
    if header.get("op") != 1 or not isinstance(header.get("t"), str):
        return "#unknown", body
    return header["t"], body


def _split_loosely(frame: bytes, refused: Exception) -> tuple[str, Any]:
    """The same of a body that is no DAG-CBOR; what is in it may be anybody's who has a PDS."""
    header = next((one for one in _HEADERS if frame.startswith(one)), None)
    try:
        if header is not None:
            return _HEADERS[header], read_loosely(frame[len(header) :])
    except ValueError:
        pass
    raise BadFrame(f"not two DAG-CBOR objects: {refused}") from refused


def _about_repo(kind: str, body: Mapping[str, Any], seq: int, time_ms: int, did: str) -> Event:
    if kind == "#account":
        is_active, status = body.get("active"), body.get("status")
        if not isinstance(is_active, bool):
            return Sync(seq, time_ms, did)
        return Account(seq, time_ms, did, is_active, account_status(status))
    if kind == "#sync":
        return Sync(seq, time_ms, did, rev_of_sync(body.get("rev")))
    if kind == "#identity":
        return Identity(seq, time_ms, did)
    return Skipped(seq, time_ms)


def rev_of_sync(rev: object) -> int:
    """The rev that a `#sync` names, as a number; 0 for what is none."""
    return tid_to_int(rev) if isinstance(rev, str) and is_tid(rev) else 0


def account_status(status: object) -> str | None:
    """The status of an account: one of an open set of plain words, written by anybody's PDS."""
    if status is None:
        return None
    is_word = isinstance(status, str) and _STATUS.fullmatch(status) is not None
    return str(status) if is_word else "unknown"


def _commit(body: Mapping[str, Any], seq: int, time_ms: int, wants: Mapping[str, int]) -> Event:
    repo = body.get("repo")
    if not isinstance(repo, str):
        raise BadFrame("#commit of no repo")
    if repo not in wants:
        return Skipped(seq, time_ms)
    rev, since, ops = body.get("rev"), body.get("since"), body.get("ops")
    is_sound = isinstance(rev, str) and is_tid(rev) and isinstance(ops, list)
    if not is_sound or time_ms == 0 or len(ops) > _MAX_OPS:  # type: ignore[arg-type]
        return Sync(seq, time_ms, repo)
    since_rev = tid_to_int(since) if isinstance(since, str) and is_tid(since) else 0
    hole = "tooBig" if body.get("tooBig") is True else None
    read: list[RecordOp] = []
    try:
        read = _read_ops(ops, body.get("blocks"))  # type: ignore[arg-type]
    except BadFrame as bad:
        hole = str(bad)
    return Commit(seq, time_ms, repo, tid_to_int(rev), since_rev, tuple(read), hole)  # type: ignore[arg-type]


def _read_ops(ops: list[Any], blocks: object) -> list[RecordOp]:
    """The ops on collections that we keep. Raises BadFrame when one of them cannot be read."""
    listed: list[tuple[str, str, bytes | None, bool]] = []
    for op in ops:
        path = op.get("path") if isinstance(op, dict) else None
        if not isinstance(path, str):
            raise BadFrame("an op without a path")
        collection, _, rkey = path.partition("/")
        if collection not in WANTED_COLLECTIONS or not is_rkey(rkey):
            continue
        listed.append((collection, rkey, _cid_of(op), op.get("action") == "update"))
    cids = {cid for _, _, cid, _ in listed if cid is not None}
    records = _find_records(blocks, cids) if cids else {}
    return [
        RecordOp(collection, rkey, cid, None if cid is None else records[cid], is_edit)
        for collection, rkey, cid, is_edit in listed
    ]


def _cid_of(op: Mapping[str, Any]) -> bytes | None:
    action, cid = op.get("action"), op.get("cid")
    if action == "delete":
        return None
    if action in ("create", "update") and isinstance(cid, bytes) and len(cid) == _CID_BYTES:
        return cid
    raise BadFrame("an op without a CID")


def _find_records(car: object, wanted: set[bytes]) -> dict[bytes, object]:
    """The decoded blocks with these CIDs. Raises BadFrame if one is missing or not what it says."""
    if not isinstance(car, bytes):
        raise BadFrame("no blocks")
    found: dict[bytes, object] = {}
    length, position = _varint(car, 0)
    position += length
    size = len(car)
    while position < size and len(found) < len(wanted):
        length = car[position]
        if length < 128:
            start = position + 1
        elif position + 1 < size and car[position + 1] < 128:
            # Nearly every block has a length of two bytes.
            length, start = length & 127 | car[position + 1] << 7, position + 2
        else:
            length, start = _varint(car, position)
        position = start + length
        cid = car[start : start + _CID_BYTES]
        if cid in wanted:
            block = car[start + _CID_BYTES : position]
            if position > size or sha256(block).digest() != cid[4:]:
                raise BadFrame("a block is not what its CID says")
            found[cid] = _decode_block(block)
    if len(found) < len(wanted):
        raise BadFrame("a block is missing")
    return found


def _decode_block(block: bytes) -> object:
    try:
        if len(_LONG.findall(block)) * len(block) <= _MAX_CLAIMED:
            return libipld.decode_dag_cbor(block)
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    try:
        return read_loosely(block, _MAX_ITEMS)
    except ValueError:
        # The record itself is what is wrong: nobody can index it, and fetching it again won't help.
        return None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 5 bytes, and the position after it."""
    number = 0
    for shift in range(0, 35, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise BadFrame("a broken length in the CAR")
