"""The AppView's public answer to who follows whom (app.bsky.graph.getRelationships), over HTTP."""

from collections import Counter
from typing import Any

from simnet.account import FOLLOW
from simnet.faults import Faults
from simnet.http_server import LoopbackServer, Reply, Request, xrpc_error
from simnet.world import World

PATH = "/xrpc/app.bsky.graph.getRelationships"
MAX_OTHERS = 30


class Relationships:
    """Answers from the world itself, so it is never behind; and counts what it is asked."""

    def __init__(self, world: World, faults: Faults) -> None:
        # How many accounts were asked about, by who asked.
        self.asked: Counter[str] = Counter()
        self._world = world
        self.server = LoopbackServer("appview", self._handle, faults)

    @property
    def url(self) -> str:
        """The AppView's origin."""
        return self.server.url

    def _handle(self, request: Request) -> Reply:
        actor, others = request.query.get("actor", ""), request.lists.get("others", [])
        if request.path != PATH:
            return xrpc_error(501, "MethodNotImplemented", "Method Not Implemented")
        if not actor or len(others) > MAX_OTHERS:
            return xrpc_error(400, "InvalidRequest", "Error: bad parameters")
        self.asked[actor] += len(others)
        with self._world.lock:
            follows = {
                (follow.did, str(follow.record["subject"])): follow.uri
                for follow in self._world.records(FOLLOW)
            }
        return Reply({"actor": actor, "relationships": [_one(actor, o, follows) for o in others]})


def _one(actor: str, other: str, follows: dict[tuple[str, str], str]) -> dict[str, Any]:
    known = {"following": follows.get((actor, other)), "followedBy": follows.get((other, actor))}
    told = {name: uri for name, uri in known.items() if uri is not None}
    return {"$type": "app.bsky.graph.defs#relationship", "did": other, **told}
