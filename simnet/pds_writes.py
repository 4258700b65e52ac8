"""The methods of a PDS that need a login: session, records, blobs. No OAuth, no two factors."""

import json
from collections.abc import Callable
from typing import Any

from simnet.dag_cbor import RAW, Cid
from simnet.host import Host
from simnet.http_server import Reply, Request
from simnet.keys import sign_jwt
from simnet.repo import Commit, Ref, Write
from simnet.service_auth import service_claims
from simnet.sessions import Sessions
from simnet.world import AccountState
from simnet.xrpc import Method, XrpcError, required

Body = dict[str, Any]

# Of these the official server keeps one a subject: a new one takes the place of the old.
_ONE_A_SUBJECT = {
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.graph.block",
}
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class PdsWrites:
    """Acts for the accounts that live on `host`; called with the world locked."""

    def __init__(self, host: Host, url: Callable[[], str]) -> None:
        self._host = host
        self._url = url
        self._sessions = Sessions(f"{host.world.seed}/{host.name}", f"did:web:{host.name}.test")
        self._blobs: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.methods: dict[str, Method] = {
            "com.atproto.server.describeServer": ("GET", self._describe_server),
            "com.atproto.server.createSession": ("POST", self._create_session),
            "com.atproto.server.refreshSession": ("POST", self._refresh_session),
            "com.atproto.server.getSession": ("GET", self._get_session),
            "com.atproto.server.getServiceAuth": ("GET", self._get_service_auth),
            "com.atproto.repo.createRecord": ("POST", self._create_record),
            "com.atproto.repo.putRecord": ("POST", self._put_record),
            "com.atproto.repo.deleteRecord": ("POST", self._delete_record),
            "com.atproto.repo.uploadBlob": ("POST", self._upload_blob),
            "com.atproto.sync.getBlob": ("GET", self._get_blob),
            "app.bsky.actor.getProfile": ("GET", self._get_profile),
        }

    def _describe_server(self, _: Request) -> Reply:
        return Reply({"did": f"did:web:{self._host.name}.test", "availableUserDomains": [".test"]})

    def _create_session(self, request: Request) -> Reply:
        body = _json(request)
        state = self._host.world.find(str(body.get("identifier", "")).removeprefix("@").lower())
        known = state is not None and self._host.status_of(state) is not None
        if state is None or not known or body.get("password") != state.password:
            raise XrpcError(401, "AuthenticationRequired", "Invalid identifier or password")
        if state.status == "takendown":
            raise XrpcError(401, "AccountTakedown", "Account has been taken down")
        return Reply({**self._sessions.tokens(state.did), **self._account(state)})

    def _refresh_session(self, request: Request) -> Reply:
        state = self._requester(request, "refresh")
        return Reply({**self._sessions.tokens(state.did), **self._account(state)})

    def _get_session(self, request: Request) -> Reply:
        return Reply(self._account(self._requester(request)))

    def _get_service_auth(self, request: Request) -> Reply:
        state = self._requester(request)
        aud, lxm = required(request, "aud"), required(request, "lxm")
        header, payload = service_claims(state.did, state.key.alg, aud, lxm)
        return Reply({"token": sign_jwt(header, payload, state.key)})

    def _create_record(self, request: Request) -> Reply:
        state, body = self._writer(request)
        collection, record = _named(body, "collection"), _record(body)
        self._check_swap(body, "swapCommit", state.repo.head.cid.text if state.repo.head else None)
        rkey = body.get("rkey")
        if rkey is not None and state.repo.get(collection, rkey):
            raise XrpcError(400, "InvalidRequest", f"Record already exists: {rkey}")
        writes = []
        if collection in _ONE_A_SUBJECT and body.get("validate") is not False:
            writes = _older_ones(state, collection, record)
        writes.append(Write("create", collection, rkey, record))
        return self._written(*self._host.commit(state, writes))

    def _put_record(self, request: Request) -> Reply:
        state, body = self._writer(request)
        collection, rkey, record = _named(body, "collection"), _named(body, "rkey"), _record(body)
        old = state.repo.get(collection, rkey)
        self._check_swap(body, "swapCommit", state.repo.head.cid.text if state.repo.head else None)
        self._check_swap(body, "swapRecord", old.ref.cid if old else None)
        if old is not None and old.value == {"$type": collection, **record}:
            # Nothing changes, so there is no commit to name.
            return Reply({"uri": old.ref.uri, "cid": old.ref.cid, "validationStatus": "unknown"})
        action = Write("update" if old else "create", collection, rkey, record)
        return self._written(*self._host.commit(state, [action]))

    def _delete_record(self, request: Request) -> Reply:
        state, body = self._writer(request)
        collection, rkey = _named(body, "collection"), _named(body, "rkey")
        old = state.repo.get(collection, rkey)
        if old is None:
            return Reply({})
        self._check_swap(body, "swapCommit", state.repo.head.cid.text if state.repo.head else None)
        self._check_swap(body, "swapRecord", old.ref.cid)
        commit, _ = self._host.commit(state, [Write("delete", collection, rkey)])
        return Reply({"commit": {"cid": commit.cid.text, "rev": commit.rev}})

    def _upload_blob(self, request: Request) -> Reply:
        state = self._requester(request)
        said = request.headers.get("content-type", "application/octet-stream")
        seen = (mime for magic, mime in _MAGIC.items() if request.body.startswith(magic))
        mime = next(seen, said)
        cid = Cid.of(request.body, RAW).text
        self._blobs[state.did, cid] = (request.body, mime)
        size = len(request.body)
        blob = {"$type": "blob", "ref": {"$link": cid}, "mimeType": mime, "size": size}
        return Reply({"blob": blob})

    def _get_blob(self, request: Request) -> Reply:
        found = self._blobs.get((required(request, "did"), required(request, "cid")))
        if found is None:
            raise XrpcError(400, "BlobNotFound", "Blob not found")
        return Reply(found[0], content_type=found[1])

    def _get_profile(self, request: Request) -> Reply:
        state = self._host.world.find(required(request, "actor"))
        if state is None:
            raise XrpcError(400, "InvalidRequest", "Profile not found")
        return Reply({"did": state.did, "handle": state.handle})

    def _account(self, state: AccountState) -> Body:
        shown: Body = {
            "did": state.did,
            "handle": state.handle,
            "email": f"{state.name}@example.com",
            "emailConfirmed": True,
            "didDoc": self._host.world.did_document(state, self._url()),
            "active": self._host.status_of(state) == "active",
        }
        return shown if shown["active"] else {**shown, "status": self._host.status_of(state)}

    def _requester(self, request: Request, kind: str = "access") -> AccountState:
        state = self._host.world.accounts.get(self._sessions.did_of(request, kind))
        if state is None or self._host.status_of(state) is None:
            raise XrpcError(401, "AuthenticationRequired", "Unable to find user")
        return state

    def _writer(self, request: Request) -> tuple[AccountState, Body]:
        state, body = self._requester(request), _json(request)
        if self._host.world.find(_named(body, "repo")) is not state:
            raise XrpcError(401, "AuthRequired", "Authentication Required")
        if self._host.status_of(state) != "active":
            raise XrpcError(401, "AccountDeactivated", "Account is deactivated")
        return state, body

    @staticmethod
    def _check_swap(body: Body, name: str, current: str | None) -> None:
        """A swap field that is there must name what is there; null means that nothing is."""
        if name in body and body[name] != current:
            what = "Record" if name == "swapRecord" else "Commit"
            raise XrpcError(400, "InvalidSwap", f"{what} was at {current}")

    @staticmethod
    def _written(commit: Commit, refs: list[Ref]) -> Reply:
        return Reply(
            {
                "uri": refs[-1].uri,
                "cid": refs[-1].cid,
                "commit": {"cid": commit.cid.text, "rev": commit.rev},
                "validationStatus": "unknown",
            }
        )


def _older_ones(state: AccountState, collection: str, record: Body) -> list[Write]:
    same = [
        stored.ref
        for rkey in state.repo.rkeys(collection)
        if (stored := state.repo.get(collection, rkey))
        and _subject(stored.value) == _subject(record)
    ]
    return [Write("delete", collection, ref.rkey) for ref in same]


def _subject(record: Body) -> object:
    subject = record.get("subject")
    return subject.get("uri") if isinstance(subject, dict) else subject


def _json(request: Request) -> Body:
    try:
        body = json.loads(request.body)
    except ValueError as broken:
        raise XrpcError(400, "InvalidRequest", "Request body is not JSON") from broken
    if not isinstance(body, dict):
        raise XrpcError(400, "InvalidRequest", "Input must be an object")
    return body


def _named(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise XrpcError(400, "InvalidRequest", f'Input must have the property "{name}"')
    return value


def _record(body: Body) -> Body:
    record = body.get("record")
    if not isinstance(record, dict):
        raise XrpcError(400, "InvalidRequest", 'Input must have the property "record"')
    return record
