"""A small client of the official network: XRPC over plain HTTP, accounts, the control server."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import requests

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
GENERATOR = "app.bsky.feed.generator"

PASSWORD = "devnet-password"  # noqa: S105

# The AppView answers within 6 s even when our service does not; settling may take longer.
TIMEOUT_S = 90.0


def timestamp(offset_s: float = 0.0) -> str:
    """Now, or so many seconds from now, as a record's `createdAt`."""
    moment = datetime.now(UTC) + timedelta(seconds=offset_s)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class XrpcFailed(Exception):
    """An answer other than 2xx."""

    def __init__(self, response: requests.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {}
        self.status = response.status_code
        self.name = body.get("error", "")
        super().__init__(f"{self.status} {self.name}: {body.get('message', response.text[:300])}")


@dataclass(frozen=True, slots=True)
class Ref:
    """A strong reference: one version of one record."""

    uri: str
    cid: str

    @property
    def collection(self) -> str:
        return self.uri.split("/")[-2]

    @property
    def rkey(self) -> str:
        return self.uri.split("/")[-1]

    def as_json(self) -> dict[str, str]:
        return {"uri": self.uri, "cid": self.cid}


class Network:
    """The official network as a client sees it. `info` is the line that the network printed."""

    def __init__(self, info: Mapping[str, str]) -> None:
        self.info = info
        self.http = requests.Session()
        self.http.trust_env = False
        self._numbers = itertools.count()
        # Keeps the handles of two clients of one network apart. The PDS takes 18 characters.
        self._run = secrets.token_hex(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def query(
        self,
        nsid: str,
        params: Mapping[str, Any],
        token: str | None = None,
        base: str | None = None,
    ) -> Any:
        response = self.http.get(
            f"{base or self.info['pds']}/xrpc/{nsid}",
            params={key: value for key, value in params.items() if value is not None},
            headers=_authorization(token),
            timeout=TIMEOUT_S,
        )
        return _body(response)

    def procedure(
        self,
        nsid: str,
        body: Mapping[str, Any] | None,
        token: str | None = None,
        proxy: str | None = None,
    ) -> Any:
        """`body` None sends none at all, as some insist; `proxy`: whom the PDS passes it on to."""
        headers = _authorization(token) | ({} if proxy is None else {"atproto-proxy": proxy})
        url = f"{self.info['pds']}/xrpc/{nsid}"
        return _body(self.http.post(url, json=body, headers=headers, timeout=TIMEOUT_S))

    def administer(self, nsid: str, body: Mapping[str, Any]) -> Any:
        response = self.http.post(
            f"{self.info['pds']}/xrpc/{nsid}",
            json=body,
            auth=("admin", self.info["admin_password"]),
            timeout=TIMEOUT_S,
        )
        return _body(response)

    def control(self, command: str, **body: object) -> dict[str, Any]:
        """See `official.mjs` for the commands."""
        url = f"{self.info['control']}/{command}"
        result: dict[str, Any] = _body(self.http.post(url, json=body, timeout=TIMEOUT_S))
        return result

    def settle(self) -> int:
        """Wait until the AppView has indexed all there is; the last sequence number."""
        return int(self.control("settle")["seq"])

    def drop_streams(self) -> int:
        """Cut everybody's stream but the AppView's; how many there were."""
        return int(self.control("drop-streams")["cut"])

    def account(self, name: str) -> Account:
        return Account(self, f"{name}-{self._run}-{next(self._numbers)}.test")

    def delete_account(self, account: Account) -> None:
        self.administer("com.atproto.admin.deleteAccount", {"did": account.did})


class Account:
    """Somebody who reads and writes; made at the PDS on construction."""

    def __init__(self, network: Network, handle: str) -> None:
        self.network = network
        self.handle = handle
        session = network.procedure(
            "com.atproto.server.createAccount",
            {"handle": handle, "email": f"{handle}@example.com", "password": PASSWORD},
        )
        self.did: str = session["did"]
        self.token: str = session["accessJwt"]

    @property
    def name(self) -> str:
        return self.handle.split("-")[0]

    def query(self, nsid: str, **params: object) -> Any:
        return self.network.query(nsid, params, self.token)

    def procedure(self, nsid: str, **body: object) -> Any:
        return self.network.procedure(nsid, body, self.token)

    def log_in(self) -> None:
        """A new session; deactivation ends the old one's right to write."""
        session = self.network.procedure(
            "com.atproto.server.createSession", {"identifier": self.did, "password": PASSWORD}
        )
        self.token = session["accessJwt"]

    def app_password(self, name: str) -> str:
        return str(self.procedure("com.atproto.server.createAppPassword", name=name)["password"])

    def create(
        self, record: Mapping[str, Any], rkey: str | None = None, *, validate: bool | None = None
    ) -> Ref:
        body: dict[str, Any] = {
            "repo": self.did,
            "collection": record["$type"],
            "record": record,
            "rkey": rkey,
            "validate": validate,
        }
        given = {key: value for key, value in body.items() if value is not None}
        return _ref(self.procedure("com.atproto.repo.createRecord", **given))

    def put(self, rkey: str, record: Mapping[str, Any]) -> Ref:
        return _ref(
            self.procedure(
                "com.atproto.repo.putRecord",
                repo=self.did,
                collection=record["$type"],
                rkey=rkey,
                record=record,
            )
        )

    def delete(self, ref: Ref) -> None:
        self.procedure(
            "com.atproto.repo.deleteRecord", repo=self.did, collection=ref.collection, rkey=ref.rkey
        )

    def apply(self, writes: Sequence[Mapping[str, Any]]) -> list[Ref | None]:
        """Several writes in one commit: `creation`, `change`, `removal`. None for a removal."""
        if not writes:
            return []
        done = self.procedure("com.atproto.repo.applyWrites", repo=self.did, writes=list(writes))
        return [_ref(result) if "uri" in result else None for result in done["results"]]

    def post(self, text: str, *, reply_to: Reply | None = None, quote: Ref | None = None) -> Ref:
        return self.create(post_record(text, reply_to=reply_to, quote=quote))

    def repost(self, subject: Ref) -> Ref:
        return self.create(repost_record(subject))

    def follow(self, other: Account, *, again: bool = False) -> Ref:
        """A follow record; `again` keeps an older one of the same account, which a validating PDS
        would delete in the same commit.
        """
        return self.create(follow_record(other.did), validate=False if again else None)

    def deactivate(self) -> None:
        self.procedure("com.atproto.server.deactivateAccount")

    def activate(self) -> None:
        self.log_in()
        self.network.procedure("com.atproto.server.activateAccount", None, self.token)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a post answers: `root` is the parent itself when that starts the thread."""

    root: Ref
    parent: Ref

    @classmethod
    def to(cls, parent: Ref, root: Ref | None = None) -> Reply:
        return cls(root or parent, parent)


def post_record(
    text: str,
    *,
    created_at: str | None = None,
    reply_to: Reply | None = None,
    quote: Ref | None = None,
) -> dict[str, Any]:
    record: dict[str, Any] = {"$type": POST, "text": text, "createdAt": created_at or timestamp()}
    if reply_to is not None:
        record["reply"] = {"root": reply_to.root.as_json(), "parent": reply_to.parent.as_json()}
    if quote is not None:
        record["embed"] = {"$type": "app.bsky.embed.record", "record": quote.as_json()}
    return record


def repost_record(subject: Ref, created_at: str | None = None) -> dict[str, Any]:
    return {
        "$type": REPOST,
        "subject": subject.as_json(),
        "createdAt": created_at or timestamp(),
    }


def follow_record(did: str) -> dict[str, Any]:
    return {"$type": FOLLOW, "subject": did, "createdAt": timestamp()}


def generator_record(service_did: str, name: str) -> dict[str, Any]:
    return {"$type": GENERATOR, "did": service_did, "displayName": name, "createdAt": timestamp()}


def creation(record: Mapping[str, Any]) -> dict[str, Any]:
    kind = "com.atproto.repo.applyWrites#create"
    return {"$type": kind, "collection": record["$type"], "value": record}


def change(rkey: str, record: Mapping[str, Any]) -> dict[str, Any]:
    kind = "com.atproto.repo.applyWrites#update"
    return {"$type": kind, "collection": record["$type"], "rkey": rkey, "value": record}


def removal(ref: Ref) -> dict[str, Any]:
    kind = "com.atproto.repo.applyWrites#delete"
    return {"$type": kind, "collection": ref.collection, "rkey": ref.rkey}


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _body(response: requests.Response) -> Any:
    if not response.ok:
        raise XrpcFailed(response)
    return response.json() if response.content else {}


def _ref(result: Mapping[str, str]) -> Ref:
    return Ref(result["uri"], result["cid"])
