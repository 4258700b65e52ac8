"""The publisher's account on its PDS: a session, and the generator records in its repo.

Goes through the SDK's client, but in plain dicts: its models drop the fields they do not know.
Every failure becomes a PublishFailed whose message tells the operator what to do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from atproto import Client, Request, models
from atproto.exceptions import AtProtocolError, RateLimitExceededError, RequestErrorBase

from publishing.record import COLLECTION, Avatar, Record
from server.core.errors import FeedError

# For connecting and for each silence. A megabyte of avatar takes a while on a slow line.
TIMEOUT_SECONDS = 30.0
PAGE_RECORDS = 100
# An account has a handful of feeds; a server that never ends its list is not waited for.
MAX_PAGES = 50


class PublishFailed(FeedError):
    """The PDS did not do what was asked. `name` is the XRPC error name, "" if there was none."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class RecordChanged(PublishFailed):
    """Somebody wrote the record after it was read: nothing was written."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A generator record as it stands in the repo; `cid` names this version of it."""

    rkey: str
    cid: str
    value: Record


def log_in(pds_url: str, identifier: str, password: str) -> "Account":
    """A session of the account that `identifier` (a handle, DID or e-mail) names.

    `pds_url` may be the entryway of a hosting provider: the session says where the repo really is.
    """
    client = Client(base_url=pds_url, request=Request(timeout=TIMEOUT_SECONDS))
    sessions: list[Any] = []
    client.on_session_change(lambda _event, session: sessions.append(session))
    try:
        with _failures_explained(pds_url):
            client.login(identifier, password, fetch_bsky_profile=False)
    except PublishFailed as failure:
        raise _login_failure(client, pds_url, identifier, failure) from failure
    return Account(client, sessions[-1].did, sessions[-1].handle, sessions[-1].pds_endpoint)


class Account:
    """A logged-in account. Reads and writes nothing but generator records."""

    def __init__(self, client: Any, did: str, handle: str, pds_url: str) -> None:
        self.did = did
        self.handle = handle
        self._client = client
        self._pds_url = pds_url.removesuffix("/xrpc")

    def get(self, rkey: str) -> StoredRecord | None:
        """The record at `rkey`, or None if there is none."""
        params = models.ComAtprotoRepoGetRecord.Params(
            repo=self.did, collection=COLLECTION, rkey=rkey
        )
        try:
            return self._stored(rkey, self._query("com.atproto.repo.getRecord", params))
        except PublishFailed as failure:
            if failure.name == "RecordNotFound":
                return None
            raise

    def records(self) -> list[StoredRecord]:
        """All generator records of the account, also those that are none of ours."""
        found: list[StoredRecord] = []
        cursor = None
        for _ in range(MAX_PAGES):
            params = models.ComAtprotoRepoListRecords.Params(
                repo=self.did, collection=COLLECTION, limit=PAGE_RECORDS, cursor=cursor
            )
            page = self._query("com.atproto.repo.listRecords", params)
            records = page.get("records") or []
            found += [self._stored(str(item["uri"]).rpartition("/")[2], item) for item in records]
            cursor = page.get("cursor")
            # The last page has a cursor as well; what follows it is empty.
            if not records or not cursor:
                return found
        raise PublishFailed(f"{self._pds_url} lists more than {MAX_PAGES} pages of feeds")

    def put(self, rkey: str, record: Record, replaces: StoredRecord | None) -> None:
        """Writes the record if what stands there is still `replaces` (None: nothing).

        Raises RecordChanged if it is not.
        """
        body = self._address(rkey) | {
            "record": record,
            "swapRecord": replaces.cid if replaces else None,
        }
        self._procedure("com.atproto.repo.putRecord", body)

    def delete(self, stored: StoredRecord) -> None:
        """Deletes the record if it is still this version. Raises RecordChanged if it is not."""
        body = self._address(stored.rkey) | {"swapRecord": stored.cid}
        self._procedure("com.atproto.repo.deleteRecord", body)

    def upload(self, avatar: Avatar) -> Record:
        """Stores the picture and returns how a record refers to it.

        The PDS forgets it again if no record comes to refer to it.
        """
        with _failures_explained(self._pds_url):
            response = self._client.invoke_procedure(
                "com.atproto.repo.uploadBlob",
                content=avatar.data,
                headers={"Content-Type": avatar.mime_type},
            )
        blob = response.content.get("blob") if isinstance(response.content, dict) else None
        if not isinstance(blob, dict) or blob.get("ref") != avatar.blob["ref"]:
            raise PublishFailed(f"{self._pds_url} did not store the avatar as it was sent")
        # A PDS that guesses another type from the name or nothing makes a record nobody accepts.
        if blob.get("mimeType") != avatar.mime_type:
            raise PublishFailed(
                f"{self._pds_url} stored the avatar as {blob.get('mimeType')}, "
                f"not as {avatar.mime_type}"
            )
        return blob

    def _address(self, rkey: str) -> Record:
        return {"repo": self.did, "collection": COLLECTION, "rkey": rkey}

    def _query(self, nsid: str, params: Any) -> Record:
        with _failures_explained(self._pds_url):
            content = self._client.invoke_query(nsid, params=params).content
        if not isinstance(content, dict):
            raise PublishFailed(f"{self._pds_url} answered {nsid} with something that is no JSON")
        return content

    def _procedure(self, nsid: str, body: Record) -> None:
        with _failures_explained(self._pds_url):
            self._client.invoke_procedure(
                nsid, content=json.dumps(body), input_encoding="application/json"
            )

    def _stored(self, rkey: str, item: Any) -> StoredRecord:
        value, cid = item.get("value"), item.get("cid")
        if not isinstance(value, dict) or not isinstance(cid, str):
            raise PublishFailed(f"{self._pds_url} answered with a record that has no value or cid")
        return StoredRecord(rkey, cid, value)


@contextmanager
def _failures_explained(pds_url: str) -> Iterator[None]:
    try:
        yield
    except RateLimitExceededError as error:
        raise PublishFailed(
            f"{pds_url} takes no more requests for now: try again {_when(error)}",
            "RateLimitExceeded",
        ) from error
    except RequestErrorBase as error:
        if error.response is None:
            raise _unreachable(pds_url, error.__cause__ or error) from error
        raise _answered(pds_url, error.response) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(pds_url, error) from error
    except (AtProtocolError, ValueError) as error:
        raise PublishFailed(
            f"{pds_url} does not answer like a PDS: is the address right?"
        ) from error


def _unreachable(pds_url: str, cause: BaseException) -> PublishFailed:
    why = str(cause) or type(cause).__name__
    return PublishFailed(f"{pds_url} cannot be reached ({why}): is PUBLISH_PDS_URL right?")


def _answered(pds_url: str, response: Any) -> PublishFailed:
    name = str(getattr(response.content, "error", "") or "")
    message = str(getattr(response.content, "message", "") or "")
    if name == "InvalidSwap":
        return RecordChanged("the record was changed by somebody else at the same time", name)
    told = ": ".join(part for part in (name, message) if part)
    return PublishFailed(f"{pds_url} answered {response.status_code} {told}".rstrip(), name)


def _when(error: Any) -> str:
    if error.retry_after is not None:
        return f"in {error.retry_after:.0f} seconds"
    if error.reset_at is not None:
        return f"after {error.reset_at:%Y-%m-%d %H:%M:%S} UTC"
    return "later"


def _login_failure(
    client: Any, pds_url: str, identifier: str, failure: PublishFailed
) -> PublishFailed:
    if failure.name == "AuthFactorTokenRequired":
        return PublishFailed(
            f"{identifier} asks for a code by e-mail, as it does for the main password. "
            "Make an app password (Settings, Privacy and security, App passwords) and put it in "
            "PUBLISH_APP_PASSWORD",
            failure.name,
        )
    if failure.name != "AuthenticationRequired":
        return failure
    # The PDS does not say which of the two is wrong, but it tells whether a handle exists.
    if not identifier.startswith("did:") and "@" not in identifier:
        try:
            with _failures_explained(pds_url):
                client.com.atproto.identity.resolve_handle({"handle": identifier})
        except PublishFailed:
            return PublishFailed(
                f"{pds_url} knows no account {identifier}: is PUBLISH_HANDLE right?", failure.name
            )
    return PublishFailed(
        f"{pds_url} refuses the password for {identifier}: PUBLISH_APP_PASSWORD must be one of its "
        "app passwords",
        failure.name,
    )
