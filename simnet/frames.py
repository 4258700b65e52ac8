"""The bytes of subscribeRepos: what each kind of event looks like. Numbers and windows: stream."""

from collections.abc import Callable
from typing import Any

from simnet.clock import iso
from simnet.dag_cbor import encode
from simnet.repo import Commit, car

Body = dict[str, Any]


def message(kind: str, body: Body) -> bytes:
    """A normal frame: header and body, two CBOR items."""
    return encode({"t": kind, "op": 1}) + encode(body)


def error(name: str, text: str) -> bytes:
    """The last frame before the server closes."""
    return encode({"op": -1}) + encode({"error": name, "message": text})


def info(name: str, text: str) -> bytes:
    """A notice without a number."""
    return message("#info", {"name": name, "message": text})


def commit(of: Commit, now_us: int) -> Body:
    """A #commit without its number."""
    ops = []
    for op in of.ops:
        fields: Body = {"action": op.action, "path": op.path, "cid": op.cid}
        if op.prev is not None:
            fields["prev"] = op.prev
        ops.append(fields)
    body: Body = {
        "repo": of.did,
        "rev": of.rev,
        "since": of.since,
        "commit": of.cid,
        "blocks": of.slice,
        "ops": ops,
        "blobs": [],
        "rebase": False,
        "tooBig": False,
        "time": iso(now_us),
    }
    if of.prev_data is not None:
        body["prevData"] = of.prev_data
    return body


def sync(of: Commit, now_us: int) -> Body:
    """A #sync: the repo stands at this commit, whatever you knew."""
    blocks = car(of.cid, {of.cid: of.block})
    return {"did": of.did, "rev": of.rev, "blocks": blocks, "time": iso(now_us)}


def identity(did: str, handle: str | None, now_us: int) -> Body:
    """An #identity: look the DID up again."""
    body: Body = {"did": did, "time": iso(now_us)}
    return body if handle is None else {**body, "handle": handle}


def account(did: str, status: str, now_us: int) -> Body:
    """An #account; the status `active` is said by the flag alone."""
    body: Body = {"did": did, "active": status == "active", "time": iso(now_us)}
    return body if status == "active" else {**body, "status": status}


def strange(what: str, seq: int) -> bytes | str:
    """A frame no reader expects, by its name in STRANGE."""
    return STRANGE[what](seq)


def _without_chain(body: Body, _: Commit) -> Body:
    ops = [{key: value for key, value in op.items() if key != "prev"} for op in body["ops"]]
    return {**{key: value for key, value in body.items() if key != "prevData"}, "ops": ops}


# Frames that break some reader: by name, made from the number they take in the stream.
STRANGE: dict[str, Callable[[int], bytes | str]] = {
    # A header that stops in the middle of a map.
    "garbage": lambda seq: b"\xa2\x61t\x67#com\xff\xfe not CBOR",
    "empty": lambda seq: b"",
    "text": lambda seq: "a text frame on a binary stream",
    "unknown-type": lambda seq: message("#tomorrow", {"seq": seq, "did": "did:plc:nobody"}),
    "unknown-op": lambda seq: encode({"op": 7}) + encode({"seq": seq}),
    "header-only": lambda seq: encode({"t": "#commit", "op": 1}),
    "fields-missing": lambda seq: message("#commit", {"seq": seq}),
    # Relays look at no handle: anybody who has a PDS may write this of any account.
    "no-utf8": lambda seq: message(
        "#identity", {"seq": seq, "did": "did:plc:nobody", "handle": "XX"}
    ).replace(b"XX", b"\xff\xfe"),
}

# Commits as careless or old servers send them: by the name of the fault.
SPOILED: dict[str, Callable[[Body, Commit], Body]] = {
    "stream-too-big": lambda body, of: {**body, "tooBig": True, "ops": [], "blocks": b""},
    "stream-no-chain": _without_chain,
    "stream-no-blocks": lambda body, of: {**body, "blocks": car(of.cid, {of.cid: of.block})},
}
