"""Messages of a Jetstream, version 1 (`/subscribe`) and 2 (`subscribeEvents`), as events.

Pure. JSON is read by typed structures that leave the record as it is. What cannot be read is an
event that says whose repo has a hole, if we track it, and BadFrame only when even the account is
unknown (jetstream_head.py). Records come as JSON; what the projection looks at (texts, numbers,
maps) is the same there as in DAG-CBOR.

What a Jetstream does not tell: which commit continues which (`since` is UNTOLD), what belongs to
one commit (each op comes alone), whether a record is what its CID says, and, in version 1, #sync.
So a loss shows only where sources are read together, or when repos are compared with their PDSes.

The number of an event is its time in microseconds: any Jetstream understands it (source.py).
"""

from collections.abc import Callable, Mapping

import msgspec

from server.core.errors import BadFrame, StreamBroken
from server.core.events import (
    UNTOLD,
    Account,
    Commit,
    Event,
    Identity,
    Info,
    RecordOp,
    Skipped,
    Sync,
)
from server.core.projection import WANTED_COLLECTIONS
from server.core.syntax import datetime_ms, is_rkey, is_tid, tid_to_int
from server.ingest.compression import Dictionary
from server.ingest.jetstream_head import V2_KINDS, head_of, text_us
from server.ingest.relay import SourceError, account_status, rev_of_sync

_ABOUT_A_REPO = frozenset(("commit", "account", "identity", "sync"))
_CID_BYTES = 36
# Python reads base 32 with these digits; what is no digit of a CID must be none for it either.
_TO_BASE32HEX = dict.fromkeys(range(128), "!") | {
    ord(digit): "0123456789abcdefghijklmnopqrstuv"[value]
    for value, digit in enumerate("abcdefghijklmnopqrstuvwxyz234567")
}
_MAX_US = 2**62

Read = Callable[[bytes | str, Mapping[str, int]], Event]


class _Op(msgspec.Struct, gc=False):
    """One change. Of any type what anybody may write; looked at only if we track the account."""

    rev: object = None
    operation: object = None
    collection: object = None
    rkey: object = None
    cid: object = None
    record: msgspec.Raw = msgspec.Raw()


class _V1(msgspec.Struct, gc=False):
    did: str
    time_us: int
    kind: str
    commit: msgspec.Raw = msgspec.Raw()
    account: msgspec.Raw = msgspec.Raw()
    identity: msgspec.Raw = msgspec.Raw()


class _V2Payload(_Op, gc=False):
    kind: str = msgspec.field(name="$type", default="")
    did: str = ""
    name: object = None
    time: object = None
    account: msgspec.Raw = msgspec.Raw()
    identity: msgspec.Raw = msgspec.Raw()
    sync: msgspec.Raw = msgspec.Raw()


class _V2(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="$type")
    payload: _V2Payload | None = None
    error: object = None
    message: object = None


class _Upstream(msgspec.Struct, gc=False):
    """The event of the relay that a Jetstream wraps."""

    time: object = None
    active: object = None
    status: object = None
    rev: object = None


_v1 = msgspec.json.Decoder(_V1)
_v2 = msgspec.json.Decoder(_V2)
_op = msgspec.json.Decoder(_Op)
_upstream = msgspec.json.Decoder(_Upstream)
_record = msgspec.json.Decoder()
# msgspec's own errors are ValueErrors; the rest is for depth and for texts that are no UTF-8.
_UNREADABLE = (ValueError, RecursionError)


def decoder(read: Read, dictionary: Dictionary | None) -> Read:
    """`read` for a source that may compress: text is JSON, and bytes are compressed JSON.

    Raises StreamBroken for bytes from a source that was not asked for them: it would send no text.
    """

    def decode(message: bytes | str, wants: Mapping[str, int]) -> Event:
        if isinstance(message, bytes):
            if dictionary is None:
                raise StreamBroken("a binary message, and we asked for no compression")
            message = dictionary.expand(message)
        return read(message, wants)

    return decode


def decode_v1(message: bytes | str, wants: Mapping[str, int]) -> Event:
    """One event of version 1. Raises BadFrame."""
    try:
        told = _v1.decode(message)
    except _UNREADABLE as error:
        return _unreadable(message, wants, error)
    time_us = told.time_us
    if not 0 <= time_us < _MAX_US:
        raise BadFrame("an impossible time")
    if told.did not in wants:
        return Skipped(time_us, time_us // 1000)
    if told.kind == "commit":
        try:
            op = _op.decode(told.commit)
        except _UNREADABLE:
            return Sync(time_us, time_us // 1000, told.did)
        return _commit(time_us, told.did, op)
    if told.kind == "account":
        return _account(time_us, told.did, told.account)
    if told.kind == "identity":
        return Identity(time_us, _upstream_ms(told.identity, time_us), told.did)
    return Skipped(time_us, time_us // 1000)


def decode_v2(message: bytes | str, wants: Mapping[str, int]) -> Event:
    """One event of version 2. Raises BadFrame, and SourceError for an error frame."""
    try:
        told = _v2.decode(message)
    except _UNREADABLE as error:
        return _unreadable(message, wants, error)
    payload = told.payload
    if told.kind != "message" or payload is None:
        return _no_event(told)
    kind = payload.kind.removeprefix(V2_KINDS)
    if kind == "info":
        return Info(str(payload.name))
    time_us = text_us(payload.time)
    if payload.did in wants:
        return _about_repo(kind, time_us, payload)
    if payload.did or kind not in _ABOUT_A_REPO:
        return Skipped(time_us, time_us // 1000)
    raise BadFrame(f"{kind} of no repo")


def _unreadable(message: bytes | str, wants: Mapping[str, int], error: Exception) -> Event:
    """What is known of a message that is no JSON to us: at best whose it is, by its head.

    Records may be nested deeper than we read, and what one account writes must not be a hole of
    everybody. Raises BadFrame if the head is strange as well.
    """
    told = head_of(message)
    if told is None:
        raise BadFrame(f"not a message of a Jetstream: {_told(error)}") from error
    did, time_us = told
    return (
        Sync(time_us, time_us // 1000, did) if did in wants else Skipped(time_us, time_us // 1000)
    )


def _no_event(told: _V2) -> Event:
    if told.kind == "error":
        raise SourceError(str(told.error or "an error"), str(told.message or "no message")[:200])
    if told.kind == "message":
        raise BadFrame("a message without a payload")
    return Info(told.kind)


def _about_repo(kind: str, time_us: int, payload: _V2Payload) -> Event:
    if kind == "commit":
        return _commit(time_us, payload.did, payload)
    if kind == "account":
        return _account(time_us, payload.did, payload.account)
    if kind == "sync":
        return _sync(time_us, payload.did, payload.sync)
    if kind == "identity":
        return Identity(time_us, _upstream_ms(payload.identity, time_us), payload.did)
    return Skipped(time_us, time_us // 1000)


def _sync(time_us: int, did: str, raw: msgspec.Raw) -> Event:
    time_ms = _upstream_ms(raw, time_us)
    try:
        rev = _upstream.decode(raw).rev
    except _UNREADABLE:
        rev = None
    return Sync(time_us, time_ms, did, rev_of_sync(rev))


def _account(time_us: int, did: str, raw: msgspec.Raw) -> Event:
    time_ms = _upstream_ms(raw, time_us)
    try:
        told = _upstream.decode(raw)
    except _UNREADABLE:
        return Sync(time_us, time_ms, did)
    if not isinstance(told.active, bool):
        return Sync(time_us, time_ms, did)
    return Account(time_us, time_ms, did, told.active, account_status(told.status))


def _commit(time_us: int, did: str, op: _Op) -> Event:
    time_ms, rev = time_us // 1000, op.rev
    if not isinstance(rev, str) or not is_tid(rev) or time_us == 0:
        return Sync(time_us, time_ms, did)
    try:
        read = _read_op(op)
    except BadFrame as bad:
        return Commit(time_us, time_ms, did, tid_to_int(rev), UNTOLD, (), str(bad))
    if read is None:
        return Skipped(time_us, time_ms)
    return Commit(time_us, time_ms, did, tid_to_int(rev), UNTOLD, (read,))


def _read_op(op: _Op) -> RecordOp | None:
    """The op, if it is on a collection that we keep. Raises BadFrame when it cannot be read."""
    collection, rkey = op.collection, op.rkey
    if not isinstance(collection, str) or not isinstance(rkey, str):
        raise BadFrame("an op without a path")
    if collection not in WANTED_COLLECTIONS or not is_rkey(rkey):
        return None
    if op.operation == "delete":
        return RecordOp(collection, rkey, None, None)
    cid = _raw_cid(op.cid)
    if op.operation not in ("create", "update") or cid is None:
        raise BadFrame("an op without a CID")
    if not bytes(op.record):
        raise BadFrame("a record is missing")
    try:
        record = _record.decode(op.record)
    except _UNREADABLE:
        # The record itself is what is wrong: nobody can index it, and fetching it won't help.
        record = None
    return RecordOp(collection, rkey, cid, record, op.operation == "update")


def _raw_cid(text: object) -> bytes | None:
    """A CID as text (`bafyrei…`: base 32, lower case, no padding) in its 36 bytes."""
    if not isinstance(text, str) or len(text) != 59 or not text.isascii() or text[0] != "b":
        return None
    try:
        number = int(text[1:].translate(_TO_BASE32HEX), 32)
    except ValueError:
        return None
    # 58 digits of 5 bits are 2 more than 36 bytes have.
    return (number >> 2).to_bytes(_CID_BYTES)


def _upstream_ms(raw: msgspec.Raw, time_us: int) -> int:
    """When the relay's event says it happened; else when the Jetstream saw it."""
    try:
        time_ms = datetime_ms(_upstream.decode(raw).time)
    except _UNREADABLE:
        time_ms = None
    return time_us // 1000 if time_ms is None else time_ms


def _told(error: BaseException) -> str:
    # What the text of the error quotes is theirs, and goes into our ledger.
    return str(error).replace("\0", "")[:200]
