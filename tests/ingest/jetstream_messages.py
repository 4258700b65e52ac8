"""Messages of a Jetstream, by hand and from simnet, and a slow decoder to compare with."""

import base64
import json
from typing import Any

from websockets.sync.client import connect

from server.core.errors import BadFrame
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
from server.core.syntax import POST, datetime_ms, is_rkey, is_tid, tid_to_int
from server.ingest.relay import SourceError, account_status
from simnet import Network
from tests.builders import NOW_MS, cid_text, did, iso, raw_cid, tid

V2 = "network.bsky.jetstream.subscribeEvents#"
NOW_US = NOW_MS * 1000 + 321
NOW_TEXT = iso(NOW_MS)[:23] + "321Z"


def op(**changes: Any) -> dict[str, Any]:
    """A create of a post; `...` leaves a field out."""
    record = {"$type": POST, "text": "hello", "createdAt": iso(NOW_MS)}
    body = {
        "rev": tid(2),
        "operation": "create",
        "collection": POST,
        "rkey": tid(1),
        "record": record,
        "cid": cid_text(raw_cid(1)),
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not ...}


def v1(kind: str = "commit", body: object = None, /, **changes: Any) -> str:
    """A message of version 1 about alice."""
    body = op() if body is None else body
    told = {"did": did("alice"), "time_us": NOW_US, "kind": kind, kind: body, **changes}
    return json.dumps({key: value for key, value in told.items() if value is not ...})


def v2(kind: str = "commit", body: dict[str, Any] | None = None, /, **changes: Any) -> str:
    """A message of version 2 about alice."""
    body = op() if body is None else body
    payload = {"$type": V2 + kind, "seq": 7, "did": did("alice"), "time": NOW_TEXT, **body}
    payload = {key: value for key, value in {**payload, **changes}.items() if value is not ...}
    return json.dumps({"$type": "message", "payload": payload})


def simnet_messages() -> tuple[dict[str, list[str]], list[str]]:
    """All kinds of events of a small network in both versions; and the DIDs in it."""
    with Network(seed=12, pds=2, jetstreams=1) as net:
        alice, bob = net.create_account("alice"), net.create_account("bob", pds=1)
        post = alice.post("first", embed=None)
        bob.post("answer", reply_to=post)
        bob.repost(post)
        bob.like(post)
        bob.follow(alice)
        bob.unfollow(alice)
        alice.edit(post, text="changed")
        alice.put("app.bsky.feed.postgate", "self", {"post": post.uri})
        alice.emit_sync()
        alice.deactivate()
        alice.activate()
        alice.delete(post)
        jetstream = net.jetstreams[0]
        start = jetstream.stream.log.read(jetstream.stream.log.first_position, 1)[0]["seq"]
        told = {}
        for name, url in (("v1", jetstream.v1_url), ("v2", jetstream.v2_url)):
            with connect(f"{url}?cursor={start}", compression=None) as socket:
                told[name] = []
                while True:
                    try:
                        told[name].append(socket.recv(timeout=0.3))
                    except TimeoutError:
                        break
        return told, [alice.did, bob.did]


def slow_v1(text: str, wants: dict[str, int]) -> Event:
    """The event in a message of version 1, by the plainest means."""
    told = _object(text)
    account, time_us, kind = told.get("did"), told.get("time_us"), told.get("kind")
    if not isinstance(account, str) or type(time_us) is not int or not isinstance(kind, str):
        raise BadFrame("no head")
    if not 0 <= time_us < 2**62:
        raise BadFrame("no time")
    if account not in wants:
        return Skipped(time_us, time_us // 1000)
    return _slow_event(kind, time_us, account, told.get(kind))


def slow_v2(text: str, wants: dict[str, int]) -> Event:
    """The event in a message of version 2, by the plainest means."""
    frame = _object(text)
    if not isinstance(frame.get("$type"), str):
        raise BadFrame("no type")
    told = frame.get("payload")
    kind = told.get("$type", "") if isinstance(told, dict) else None
    account = told.get("did", "") if isinstance(told, dict) else None
    if told is not None and not (isinstance(kind, str) and isinstance(account, str)):
        raise BadFrame("no head")
    if frame["$type"] == "error":
        raise SourceError(str(frame.get("error")), str(frame.get("message")))
    if frame["$type"] != "message":
        return Info(frame["$type"])
    if told is None:
        raise BadFrame("no payload")
    return _slow_payload(kind.removeprefix(V2), account, told, wants)


def _slow_payload(kind: str, account: str, told: dict[str, Any], wants: dict[str, int]) -> Event:
    if kind == "info":
        return Info(str(told.get("name")))
    time_us = _slow_time_us(told.get("time"))
    if account not in wants:
        if account == "" and kind in ("commit", "account", "identity", "sync"):
            raise BadFrame("no repo")
        return Skipped(time_us, time_us // 1000)
    body = told if kind == "commit" else told.get(kind)
    if kind == "sync":
        rev = body.get("rev") if isinstance(body, dict) else None
        number = tid_to_int(rev) if isinstance(rev, str) and is_tid(rev) else 0
        return Sync(time_us, _inner_ms(body, time_us), account, number)
    return _slow_event(kind, time_us, account, body)


def _object(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise BadFrame("no JSON") from error
    if not isinstance(told, dict):
        raise BadFrame("no object")
    return told


def _slow_event(kind: str, time_us: int, account: str, body: Any) -> Event:
    time_ms = time_us // 1000
    if kind == "identity":
        return Identity(time_us, _inner_ms(body, time_us), account)
    if kind == "account":
        is_active = body.get("active") if isinstance(body, dict) else None
        if not isinstance(is_active, bool):
            return Sync(time_us, _inner_ms(body, time_us), account)
        status = account_status(body.get("status"))
        return Account(time_us, _inner_ms(body, time_us), account, is_active, status)
    if kind != "commit":
        return Skipped(time_us, time_ms)
    rev = body.get("rev") if isinstance(body, dict) else None
    if not isinstance(rev, str) or not is_tid(rev) or time_us == 0:
        return Sync(time_us, time_ms, account)
    ops, hole = _slow_ops(body)
    if ops is None:
        return Skipped(time_us, time_ms)
    return Commit(time_us, time_ms, account, tid_to_int(rev), UNTOLD, ops, hole)


def _slow_ops(body: dict[str, Any]) -> tuple[tuple[RecordOp, ...] | None, str | None]:
    collection, rkey, cid = body.get("collection"), body.get("rkey"), body.get("cid")
    if not isinstance(collection, str) or not isinstance(rkey, str):
        return (), "an op without a path"
    if collection not in WANTED_COLLECTIONS or not is_rkey(rkey):
        return None, None
    if body.get("operation") == "delete":
        return (RecordOp(collection, rkey, None, None),), None
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    is_cid = isinstance(cid, str) and len(cid) == 59 and cid[0] == "b"
    if not is_cid or not set(cid) <= set(alphabet):
        return (), "an op without a CID"
    if body.get("operation") not in ("create", "update"):
        return (), "an op without a CID"
    if "record" not in body:
        return (), "a record is missing"
    raw = base64.b32decode(cid[1:].upper() + "======")
    is_edit = body.get("operation") == "update"
    return (RecordOp(collection, rkey, raw, body["record"], is_edit),), None


def _inner_ms(body: Any, time_us: int) -> int:
    inner = datetime_ms(body.get("time")) if isinstance(body, dict) else None
    return time_us // 1000 if inner is None else inner


def _slow_time_us(text: object) -> int:
    time_ms = datetime_ms(text)
    if time_ms is None or time_ms < 0:
        return 0
    fraction = str(text).partition(".")[2].rstrip("Z")
    is_exact = len(str(text)) == 27 and len(fraction) == 6
    return time_ms * 1000 + (int(fraction[3:]) if is_exact else 0)
