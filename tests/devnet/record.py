"""`python -m tests.devnet.record`: what the official PDS says of every kind of event, as a fixture.

Starts the official servers, does what people do, reads the stream and writes the frames to
tests/ingest/recorded.frames: for each its length in 4 bytes, then its bytes. Run it again when the
official servers change how they write; the tests read whatever is recorded.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from websockets.sync.client import connect

from tests.devnet.client import (
    Account,
    Network,
    Reply,
    change,
    creation,
    post_record,
    removal,
    timestamp,
)
from tests.devnet.network import OfficialNetwork

FILE = Path(__file__).resolve().parents[1] / "ingest" / "recorded.frames"
QUIET_SECONDS = 2.0


def main() -> int:
    """Record, and say what there is."""
    with OfficialNetwork() as official, Network(official.info) as network:
        _live(network)
        frames = _read(official.info["stream"])
    with FILE.open("wb") as file:
        for frame in frames:
            file.write(struct.pack(">I", len(frame)) + frame)
    sys.stdout.write(f"{len(frames)} frames, {FILE.stat().st_size} bytes: {FILE}\n")
    return 0


def recorded() -> list[bytes]:
    """The frames of the last recording."""
    data, frames, position = FILE.read_bytes(), [], 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        frames.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return frames


def _live(network: Network) -> None:
    alice, bob = network.account("alice"), network.account("bob")
    first = alice.post("first")
    bob.post("an answer", reply_to=Reply.to(first))
    bob.post("a quote", quote=first)
    bob.repost(first)
    _like(bob, first)
    follow = bob.follow(alice)
    bob.delete(follow)
    alice.put(first.rkey, post_record("changed"))
    alice.put("self", {"$type": "app.bsky.actor.profile", "displayName": "Alice"})
    alice.create(post_record("odd key"), rkey="odd.key_~:-", validate=False)
    alice.create({"$type": "org.example.other", "createdAt": timestamp()}, validate=False)
    alice.apply([creation(post_record(f"one of many {number}")) for number in range(12)])
    many = [alice.post(str(number)) for number in range(8)]
    alice.apply([removal(many[0]), change(many[1].rkey, post_record("changed")), removal(many[2])])
    bob.deactivate()
    bob.activate()
    alice.procedure("com.atproto.identity.updateHandle", handle=f"new-{alice.handle[-12:]}")
    network.delete_account(bob)
    network.settle()


def _like(account: Account, subject: object) -> None:
    record = {
        "$type": "app.bsky.feed.like",
        "subject": subject.as_json(),  # type: ignore[attr-defined]
        "createdAt": timestamp(),
    }
    account.create(record)


def _read(url: str) -> list[bytes]:
    frames: list[bytes] = []
    with connect(f"{url}?cursor=0", compression=None, max_size=None) as stream:
        while True:
            try:
                frame = stream.recv(timeout=QUIET_SECONDS)
            except TimeoutError:
                return frames
            assert isinstance(frame, bytes)
            frames.append(frame)


if __name__ == "__main__":
    sys.exit(main())
