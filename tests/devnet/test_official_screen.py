"""The app draws each post that we list once, whatever repeats in threads and reposts."""

from __future__ import annotations

import pytest

from tests.devnet.client import Network, Ref, Reply
from tests.devnet.reading import Seen, wait_for, whole_feed
from tests.devnet.screen import Screen
from tests.devnet.service import Service

pytestmark = pytest.mark.devnet

PAGE = 30


@pytest.mark.parametrize("rkey", ["following", "everything", "catch-up"])
def test_threads_and_reposts_are_drawn_once(
    network: Network, shared_service: Service, rkey: str
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    me.follow(ann)
    me.follow(ben)
    root = ann.post("root")
    thread = [root]
    for number in range(5):
        thread.append(ann.post(f"thread {number}", reply_to=Reply.to(thread[-1], root)))
    ben.repost(root)
    answer = ben.post("answer", reply_to=Reply.to(thread[2], root))
    ann.post("back", reply_to=Reply.to(answer, root))
    me.post("mine", reply_to=Reply.to(root))
    ann.repost(root)
    reposted_reply = thread[4]
    ben.repost(reposted_reply)
    me.repost(reposted_reply)
    ben.post("quoting", quote=root)
    listed = 14
    network.settle()
    wait_for(lambda: len(whole_feed(me, shared_service, rkey)), listed, shared_service)
    check(whole_feed(me, shared_service, rkey, PAGE), reposted_reply)


def check(items: list[Seen], reposted_reply: Ref) -> None:
    screen = Screen()
    for start in range(0, len(items), PAGE):
        screen.add(items[start : start + PAGE])
    assert {item.post for item in items} <= set(screen.drawn)
    twice = {uri for uri in screen.drawn if screen.drawn.count(uri) > 1}
    # A repost takes a reply out of its thread: the app draws both, in its own Following as well.
    assert twice <= {reposted_reply.uri}
