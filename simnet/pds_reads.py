"""The reading methods of a PDS: records, repos, handles. Changes nothing."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from simnet.clock import wall_clock_us
from simnet.host import Host
from simnet.http_server import Reply, Request
from simnet.repo import StoredRecord
from simnet.tid import tid_at
from simnet.world import AccountState
from simnet.xrpc import Method, XrpcError, page_limit, required

_YEAR_US = 365 * 86_400_000_000

# What sync methods call a repo that is not to be had, and what they say.
_UNAVAILABLE = {
    "takendown": ("RepoTakendown", "Repo has been takendown: {}"),
    "suspended": ("RepoSuspended", "Repo has been suspended: {}"),
    "deactivated": ("RepoDeactivated", "Repo has been deactivated: {}"),
}


class PdsReads:
    """Answers for the accounts that live on `host`; called with the world locked."""

    def __init__(self, host: Host, url: Callable[[], str]) -> None:
        self._host = host
        self._url = url
        self.methods: dict[str, Method] = {
            "com.atproto.repo.listRecords": ("GET", self._list_records),
            "com.atproto.repo.getRecord": ("GET", self._get_record),
            "com.atproto.repo.describeRepo": ("GET", self._describe_repo),
            "com.atproto.sync.getLatestCommit": ("GET", self._latest_commit),
            "com.atproto.sync.getRepoStatus": ("GET", self._repo_status),
            "com.atproto.sync.getRepo": ("GET", self._get_repo),
            "com.atproto.identity.resolveHandle": ("GET", self._resolve_handle),
            "_health": ("GET", lambda _: Reply({"version": "simnet"})),
        }

    def _list_records(self, request: Request) -> Reply:
        name, collection = required(request, "repo"), required(request, "collection")
        limit = page_limit(request, default=50, largest=100)
        state = self._host.hosted(name)
        if state is None:
            raise XrpcError(400, "InvalidRequest", f"Could not find repo: {name}")
        context: dict[str, object] = {
            "host": self._host.name,
            "repo": state.did,
            "collection": collection,
        }
        cursor = request.query.get("cursor") or None
        if self._host.faults.take("list-same-cursor", **context) is not None:
            cursor = None
        keys, shown = state.repo.rkeys(collection), partial(state.repo.get, collection)
        for manner, order in _MANNERS.items():
            if self._host.faults.take(manner, **context) is not None:
                return Reply(_listed_by(order(collection, keys), shown, cursor, limit))
        rkeys = _page(keys, cursor, limit, request.query.get("reverse") == "true")
        found = [stored for rkey in rkeys if (stored := shown(rkey))]
        return Reply(self._spoil(context, _listing(found, rkeys), state))

    def _spoil(
        self, context: dict[str, object], listing: dict[str, Any], state: AccountState
    ) -> dict[str, Any]:
        if self._host.faults.take("list-empty-page", **context) is not None:
            listing["records"] = []
        if self._host.faults.take("list-foreign", **context) is not None:
            others = [other for other in self._host.world.accounts.values() if other is not state]
            stolen = [_shown(stored) for other in others for stored in other.repo.records()]
            wanted = f"/{context['collection']}/"
            listing["records"][:0] = [record for record in stolen if wanted in record["uri"]][:50]
        if self._host.faults.take("list-broken-record", **context) is not None:
            uri = f"at://{state.did}/{context['collection']}/broken"
            listing["records"].insert(0, {"uri": uri, "cid": "not a cid", "value": None})
        return listing

    def _get_record(self, request: Request) -> Reply:
        name, collection = required(request, "repo"), required(request, "collection")
        rkey, cid = required(request, "rkey"), request.query.get("cid")
        state = self._host.hosted(name)
        if state is None:
            # So the official server where it cannot ask an AppView.
            raise XrpcError(400, "InvalidRequest", "Could not locate record")
        stored = state.repo.get(collection, rkey)
        if stored is None or cid not in (None, "", stored.ref.cid):
            uri = f"at://{name}/{collection}/{rkey}"
            raise XrpcError(400, "RecordNotFound", f"Could not locate record: {uri}")
        return Reply(_shown(stored))

    def _describe_repo(self, request: Request) -> Reply:
        name = required(request, "repo")
        state = self._host.hosted(name)
        if state is None:
            raise XrpcError(400, "InvalidRequest", f"Could not find repo: {name}")
        return Reply(
            {
                "handle": state.handle,
                "did": state.did,
                "didDoc": self._host.world.did_document(state, self._url()),
                "collections": state.repo.collections(),
                "handleIsCorrect": True,
            }
        )

    def _synced(self, request: Request) -> tuple[AccountState, str]:
        did = required(request, "did")
        state = self._host.world.accounts.get(did)
        status = self._host.status_of(state) if state else None
        if state is None or status is None:
            raise XrpcError(400, "RepoNotFound", f"Could not find repo for DID: {did}")
        return state, status

    def _readable(self, request: Request) -> AccountState:
        state, status = self._synced(request)
        if status in _UNAVAILABLE:
            error, text = _UNAVAILABLE[status]
            raise XrpcError(400, error, text.format(state.did))
        return state

    def _latest_commit(self, request: Request) -> Reply:
        state = self._readable(request)
        head = state.repo.head
        if head is None:
            raise XrpcError(400, "RepoNotFound", "Could not find root")
        rev = head.rev
        if self._host.faults.take("rev-future", host=self._host.name, repo=state.did) is not None:
            rev = tid_at(wall_clock_us() + _YEAR_US)
        return Reply({"cid": head.cid.text, "rev": rev})

    def _repo_status(self, request: Request) -> Reply:
        state, status = self._synced(request)
        if status != "active":
            return Reply({"did": state.did, "active": False, "status": status})
        rev = state.repo.head.rev if state.repo.head else None
        return Reply({"did": state.did, "active": True, **({"rev": rev} if rev else {})})

    def _get_repo(self, request: Request) -> Reply:
        state = self._readable(request)
        return Reply(state.repo.export(), content_type="application/vnd.ipld.car")

    def _resolve_handle(self, request: Request) -> Reply:
        state = self._host.world.find(required(request, "handle").lower())
        if state is None or state.is_tombstoned:
            raise XrpcError(400, "InvalidRequest", "Unable to resolve handle")
        return Reply({"did": state.did})


def _page(rkeys: Sequence[str], cursor: str | None, limit: int, reverse: bool) -> list[str]:
    """A page of record keys: descending unless reversed, strictly after the cursor."""
    if reverse:
        start = bisect_right(rkeys, cursor) if cursor else 0
        return list(rkeys[start : start + limit])
    end = bisect_left(rkeys, cursor) if cursor else len(rkeys)
    return list(reversed(rkeys[max(0, end - limit) : end]))


@dataclass(frozen=True, slots=True)
class _Order:
    """How a PDS that is not the official one lists: keys with their cursors, in its order.

    `walked`: a cursor is the path where a walk through the repo begins, in this folder or nowhere.
    """

    places: Sequence[tuple[str, str]]
    walked: str | None = None


def _downwards(_: str, keys: Sequence[str]) -> _Order:
    return _Order([(f"after-{key[::-1]}", key) for key in reversed(keys)])


def _upwards(collection: str, keys: Sequence[str]) -> _Order:
    return _Order([(f"{collection}/{key}", key) for key in keys], walked=collection)


def _shuffled(_: str, keys: Sequence[str]) -> _Order:
    return _Order(sorted((sha256(key.encode()).hexdigest(), key) for key in keys))


_MANNERS = {"list-own-cursor": _downwards, "list-upwards": _upwards, "list-shuffled": _shuffled}


def _listed_by(
    order: _Order, get: Callable[[str], StoredRecord | None], cursor: str | None, limit: int
) -> dict[str, Any]:
    """A page in that order; a cursor that it does not know leads nowhere."""
    places = list(order.places)
    if cursor is not None and order.walked is not None:
        is_there = cursor.startswith(f"{order.walked}/")
        places = [place for place in places if is_there and place[0] >= cursor]
    elif cursor is not None:
        known = [name for name, _ in places]
        places = places[known.index(cursor) + 1 :] if cursor in known else []
    page = places[:limit]
    listing: dict[str, Any] = {"records": [_shown(found) for _, key in page if (found := get(key))]}
    return {**listing, "cursor": page[-1][0]} if len(page) == limit else listing


def _listing(found: list[StoredRecord], rkeys: list[str]) -> dict[str, Any]:
    listing: dict[str, Any] = {"records": [_shown(stored) for stored in found]}
    # The official server gives a cursor with every page that has records, the last one too.
    return {**listing, "cursor": rkeys[-1]} if rkeys else listing


def _shown(stored: StoredRecord) -> dict[str, Any]:
    return {"uri": stored.ref.uri, "cid": stored.ref.cid, "value": stored.value}
