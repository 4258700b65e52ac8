"""`python -m tests.devnet.record`: what the official PDS says of every kind of event, as a fixture.

Starts the official servers, reads the stream while people do what people do, and writes the frames
to tests/ingest/recorded.frames: for each its length in 4 bytes, then its bytes. (Read afterwards,
nothing would be there of an account that was deleted: a PDS leaves that out of a replay.) Run it
again when the official servers change how they write; the tests read whatever is recorded.
"""

from __future__ import annotations

import struct
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from websockets.sync.client import connect

from tests.devnet.client import (
    Account,
    Network,
    Ref,
    Reply,
    change,
    creation,
    post_record,
    removal,
    timestamp,
)
from tests.devnet.network import OfficialNetwork
from tests.devnet.pictures import with_picture

FILE = Path(__file__).resolve().parents[1] / "ingest" / "recorded.frames"
QUIET_SECONDS = 2.0


def main() -> int:
    """Record, and say what there is."""
    with (
        OfficialNetwork() as official,
        Network(official.info) as network,
        ThreadPoolExecutor(1) as pool,
    ):
        frames = _read(official.info["stream"], pool.submit(_live, network))
    with FILE.open("wb") as file:
        for frame in frames:
            file.write(struct.pack(">I", len(frame)) + frame)
    sys.stdout.write(f"{len(frames)} frames, {FILE.stat().st_size} bytes: {FILE}\n")
    return 0


def recorded() -> list[bytes]:
    """The frames of the last recording."""
    return split(FILE.read_bytes())


def split(data: bytes) -> list[bytes]:
    """Frames, each after its length in 4 bytes."""
    frames, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        frames.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return frames


def _live(network: Network) -> None:
    alice, bob = network.account("alice"), network.account("bob")
    first = alice.post("first")
    _answer(alice, bob, first)
    follow = bob.follow(alice)
    bob.delete(follow)
    alice.follow(bob)
    alice.put(first.rkey, post_record("changed"))
    alice.put("self", {"$type": "app.bsky.actor.profile", "displayName": "Alice"})
    alice.create(post_record("odd key"), rkey="odd.key_~:-", validate=False)
    alice.create({"$type": "org.example.other", "createdAt": timestamp()}, validate=False)
    alice.apply([creation(post_record(f"one of many {number}")) for number in range(12)])
    many = [alice.post(str(number)) for number in range(8)]
    alice.apply([removal(many[0]), change(many[1].rkey, post_record("changed")), removal(many[2])])
    bob.deactivate()
    bob.activate()
    bob.post("back again")
    _suspend(network, bob)
    alice.procedure("com.atproto.identity.updateHandle", handle=f"new-{alice.handle[-12:]}")
    # What is not told yet when an account is deleted is never told.
    network.settle()
    network.delete_account(bob)
    network.settle()


def _answer(alice: Account, bob: Account, first: Ref) -> None:
    """A conversation, and all that can be done to a post."""
    answer = bob.post("an answer", reply_to=Reply.to(first))
    alice.post("and back", reply_to=Reply.to(answer, first))
    bob.post("a quote", quote=first)
    alice.create(with_picture(alice, post_record("a picture")))
    bob.create(with_picture(bob, post_record("a quote with a picture", quote=first)))
    bob.delete(bob.repost(first))
    bob.repost(first)
    for kind, subject in (("feed.like", first.as_json()), ("graph.block", alice.did)):
        bob.create({"$type": f"app.bsky.{kind}", "subject": subject, "createdAt": timestamp()})


def _suspend(network: Network, account: Account) -> None:
    subject = {"$type": "com.atproto.admin.defs#repoRef", "did": account.did}
    for takedown in ({"applied": True, "ref": "1"}, {"applied": False}):
        body = {"subject": subject, "takedown": takedown}
        network.administer("com.atproto.admin.updateSubjectStatus", body)


def _read(url: str, life: Future[None]) -> list[bytes]:
    """Everything from the first event on, until life is over and nothing more comes."""
    frames: list[bytes] = []
    with connect(f"{url}?cursor=0", compression=None, max_size=None) as stream:
        while True:
            try:
                frame = stream.recv(timeout=QUIET_SECONDS)
            except TimeoutError:
                if not life.done():
                    continue
                life.result()
                return frames
            assert isinstance(frame, bytes)
            frames.append(frame)


if __name__ == "__main__":
    sys.exit(main())
