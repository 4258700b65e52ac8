"""A PDS on loopback, as far as publishing needs one: sessions, records with swaps, blobs."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

COLLECTION = "app.bsky.feed.generator"
READS = ("com.atproto.repo.getRecord", "com.atproto.repo.listRecords")


class XrpcFault(Exception):
    """What a method answers instead of its result."""

    def __init__(
        self, status: int, name: str, message: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(name)
        self.response = Response(
            json.dumps({"error": name, "message": message}),
            status,
            headers=headers,
            content_type="application/json",
        )


def cid_of(value: object, codec: int) -> str:
    """A CID for `value`: of the bytes, or of some fixed spelling of a record."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    raw = bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def _token() -> str:
    payload = {"exp": int(time.time()) + 7200, "iat": int(time.time()), "sub": "did:plc:x"}
    parts = ({"alg": "HS256", "typ": "at+jwt"}, payload, {"signature": True})
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


@dataclass
class Pds:
    """One account and its generator records. `before` runs ahead of calls, one entry each."""

    did: str = "did:plc:publisherpublisherpublis"
    handle: str = "publisher.test"
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    records: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    before: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    repo_endpoint: str | None = None
    blob_type: str | None = None
    page: int = 100
    token: str = field(default_factory=_token)

    def __enter__(self) -> Self:
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def writes(self) -> list[tuple[str, Any]]:
        """The calls that would have changed the repo."""
        return [(nsid, body) for nsid, body in self.calls if "Record" in nsid and nsid not in READS]

    def fail_next(self, nsid: str, *args: Any, **options: Any) -> None:
        def fail() -> None:
            raise XrpcFault(*args, **options)

        self.before.setdefault(nsid, []).append(fail)

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        nsid = request.path.removeprefix("/xrpc/")
        try:
            result = self._call(nsid, request)
            response = Response(json.dumps(result), content_type="application/json")
        except XrpcFault as fault:
            response = fault.response
        return response(environ, start_response)

    def _call(self, nsid: str, request: Request) -> Any:
        is_blob = nsid == "com.atproto.repo.uploadBlob"
        if request.method == "GET":
            body: Any = request.args.to_dict()
        else:
            body = request.get_data() if is_blob else json.loads(request.get_data())
        self.calls.append((nsid, body))
        hooks = self.before.get(nsid)
        if hooks:
            hooks.pop(0)()
        if nsid == "com.atproto.server.createSession":
            return self._create_session(body)
        if nsid == "com.atproto.identity.resolveHandle":
            if body["handle"] != self.handle:
                raise XrpcFault(400, "InvalidRequest", "Unable to resolve handle")
            return {"did": self.did}
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise XrpcFault(401, "AuthMissing")
        if is_blob:
            return self._upload(body, request.headers["content-type"])
        method = getattr(self, "_" + nsid.rpartition(".")[2])
        return method(body)

    def _create_session(self, body: Any) -> Any:
        if (body["identifier"], body["password"]) != (self.handle, self.password):
            raise XrpcFault(401, "AuthenticationRequired", "Invalid identifier or password")
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": self.repo_endpoint or self.url,
        }
        return {
            "did": self.did,
            "handle": self.handle,
            "accessJwt": self.token,
            "refreshJwt": self.token,
            "didDoc": {"id": self.did, "service": [service]},
        }

    def _upload(self, data: bytes, mime_type: str) -> Any:
        cid = cid_of(data, 0x55)
        self.blobs[cid] = data
        return {
            "blob": {
                "$type": "blob",
                "ref": {"$link": cid},
                "mimeType": self.blob_type or mime_type,
                "size": len(data),
            }
        }

    def _stored(self, rkey: str) -> Any:
        value = self.records[rkey]
        uri = f"at://{self.did}/{COLLECTION}/{rkey}"
        return {"uri": uri, "cid": cid_of(value, 0x71), "value": value}

    def _getRecord(self, query: Any) -> Any:  # noqa: N802
        assert (query["repo"], query["collection"]) == (self.did, COLLECTION)
        if query["rkey"] not in self.records:
            raise XrpcFault(400, "RecordNotFound", "Could not locate record")
        return self._stored(query["rkey"])

    def _listRecords(self, query: Any) -> Any:  # noqa: N802
        rkeys = sorted((r for r in self.records if r < query.get("cursor", "~")), reverse=True)
        page = rkeys[: min(self.page, int(query["limit"]))]
        result = {"records": [self._stored(rkey) for rkey in page]}
        return result | ({"cursor": page[-1]} if page else {})

    def _check_swap(self, body: Any) -> None:
        current = self._stored(body["rkey"])["cid"] if body["rkey"] in self.records else None
        if "swapRecord" in body and body["swapRecord"] != current:
            raise XrpcFault(400, "InvalidSwap", f"Record was at {current}")

    def _putRecord(self, body: Any) -> Any:  # noqa: N802
        assert (body["repo"], body["collection"]) == (self.did, COLLECTION)
        self._check_swap(body)
        record = body["record"]
        if not {"$type", "did", "displayName", "createdAt"} <= record.keys():
            raise XrpcFault(400, "InvalidRequest", "Record is missing a field")
        link = record.get("avatar", {}).get("ref", {}).get("$link")
        if link is not None and link not in self.blobs:
            raise XrpcFault(400, "BlobNotFound", f"Could not find blob: {link}")
        self.records[body["rkey"]] = record
        stored = self._stored(body["rkey"])
        return {"uri": stored["uri"], "cid": stored["cid"]}

    def _deleteRecord(self, body: Any) -> Any:  # noqa: N802
        self._check_swap(body)
        self.records.pop(body["rkey"], None)
        return {}
