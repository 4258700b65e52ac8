"""The PLC directory: DID documents over HTTP. It takes no operations."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from simnet.faults import Faults
from simnet.http_server import LoopbackServer, Reply, Request
from simnet.world import AccountState, World


class PlcDirectory:
    """Answers `GET /DID`, and counts what it is asked."""

    def __init__(
        self, world: World, faults: Faults, pds_url: Callable[[AccountState], str]
    ) -> None:
        self.requests: Counter[str] = Counter()
        # Documents that tests want to be wrong, by DID.
        self.overrides: dict[str, dict[str, Any]] = {}
        self._world = world
        self._pds_url = pds_url
        self.server = LoopbackServer("plc", self._handle, faults)

    @property
    def url(self) -> str:
        """The directory's origin."""
        return self.server.url

    def document(self, did: str) -> dict[str, Any] | None:
        """The DID document, None if there is none."""
        with self._world.lock:
            if did in self.overrides:
                return self.overrides[did]
            state = self._world.accounts.get(did)
            if state is None or state.is_tombstoned:
                return None
            return self._world.did_document(state, self._pds_url(state))

    def _handle(self, request: Request) -> Reply:
        did = request.path.removeprefix("/")
        if did == "_health":
            return Reply({"version": "simnet"})
        self.requests[did] += 1
        document = self.document(did)
        if document is not None:
            return Reply(document, content_type="application/did+ld+json")
        state = self._world.accounts.get(did)
        if state is not None and state.is_tombstoned:
            return Reply({"message": f"DID not available: {did}"}, 410)
        return Reply({"message": f"DID not registered: {did}"}, 404)
