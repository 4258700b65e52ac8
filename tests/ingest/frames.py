"""Frames of simnet, frames made by hand, and a slow decoder that the fast one is compared with."""

from collections.abc import Mapping
from typing import Any

from atproto import CAR, firehose_models, models, parse_subscribe_repos_message
from websockets.sync.client import connect

from server.core.events import Account, Commit, Event, Identity, Info, RecordOp, Skipped, Sync
from server.core.projection import WANTED_COLLECTIONS
from server.core.syntax import datetime_ms, is_rkey, tid_to_int
from simnet import Network, Write
from simnet.dag_cbor import Cid, encode
from simnet.frames import message
from simnet.repo import car
from tests.builders import NOW_MS, did, iso, tid

POST, REPOST, LIKE = "app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.feed.like"
LINK_FIELDS = 2


def simnet_frames() -> tuple[list[bytes], list[str]]:
    """All kinds of events of a small network, as its relay sent them; and the DIDs in it."""
    with Network(seed=11, pds=2) as net:
        alice, bob = net.create_account("alice"), net.create_account("bob", pds=1, curve="p256")
        first = net.relay.stream.log.last_forgotten_seq
        post = alice.post("first")
        bob.post("answer", reply_to=post)
        bob.repost(post)
        bob.like(post)
        bob.follow(alice)
        bob.unfollow(alice)
        alice.edit(post, text="changed")
        alice.post("odd", rkey="a.b_c~d:e-f")
        alice.put("app.bsky.feed.postgate", "self", {"post": post.uri})
        alice.apply([Write("create", POST, None, {"text": str(n)}) for n in range(200)])
        again = [Write("delete", POST, post.rkey), Write("create", POST, post.rkey, {"text": "2"})]
        alice.apply(again)
        alice.apply([])
        alice.emit_sync()
        alice.deactivate()
        alice.activate()
        bob.migrate(0)
        net.relay.stream.inject("unknown-type")
        count = len(net.relay.stream.log)
        with connect(f"{net.relay.url}?cursor={first}", compression=None, max_size=None) as socket:
            return [socket.recv(timeout=5) for _ in range(count)], [alice.did, bob.did]


def slow_decode(frame: bytes, wants: Mapping[str, int]) -> Event:
    """The event of a sound frame, by the official SDK: first everything parsed, then sorted."""
    parsed = firehose_models.Frame.from_bytes(frame)
    body = parsed.body
    if parsed.header.t == "#info":
        return Info(body["name"])
    seq, time_ms = body["seq"], datetime_ms(body.get("time")) or 0
    repo = body.get("repo") or body.get("did")
    if repo not in wants or parsed.header.t not in ("#commit", "#sync", "#account", "#identity"):
        return Skipped(seq, time_ms)
    told: Any = parse_subscribe_repos_message(parsed)
    match told:
        case models.ComAtprotoSyncSubscribeRepos.Sync():
            return Sync(seq, time_ms, repo, tid_to_int(told.rev))
        case models.ComAtprotoSyncSubscribeRepos.Identity():
            return Identity(seq, time_ms, repo)
        case models.ComAtprotoSyncSubscribeRepos.Account():
            return Account(seq, time_ms, repo, told.active, told.status)
    since = 0 if told.since is None else tid_to_int(told.since)
    ops = tuple(_slow_ops(told))
    return Commit(seq, time_ms, repo, tid_to_int(told.rev), since, ops)


def _slow_ops(told: Any) -> list[RecordOp]:
    blocks = {str(cid): block for cid, block in CAR.from_bytes(told.blocks).blocks.items()}
    ops = []
    for op in told.ops:
        collection, _, rkey = op.path.partition("/")
        if collection not in WANTED_COLLECTIONS or not is_rkey(rkey):
            continue
        if op.cid is None:
            ops.append(RecordOp(collection, rkey, None, None))
        else:
            raw = bytes(Cid.parse(str(op.cid)))
            is_edit = op.action == "update"
            ops.append(RecordOp(collection, rkey, raw, blocks[str(op.cid)], is_edit))
    return ops


def record_block(text: str = "hello") -> tuple[Cid, bytes]:
    """A post as its CID and its block."""
    block = encode({"$type": POST, "text": text, "createdAt": iso(NOW_MS)})
    return Cid.of(block), block


def commit_body(**changes: Any) -> dict[str, Any]:
    """The body of a #commit of alice with one post; `changes` replaces fields of it."""
    cid, block = record_block()
    body = {
        "seq": 7,
        "repo": did("alice"),
        "rev": tid(2),
        "since": tid(1),
        "commit": cid,
        "blocks": car(cid, {cid: block}),
        "ops": [create(cid)],
        "blobs": [],
        "rebase": False,
        "tooBig": False,
        "time": iso(NOW_MS),
    }
    return {**body, **changes}


def create(cid: object, path: str = f"{POST}/3jzfcijpj2z2a", action: str = "create") -> dict:
    """An op."""
    return {"action": action, "path": path, "cid": cid}


def commit_frame(**changes: Any) -> bytes:
    """A #commit frame of alice; None leaves a field out."""
    body = {key: value for key, value in commit_body(**changes).items() if value is not ...}
    return message("#commit", body)
