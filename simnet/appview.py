"""The AppView's part in a custom feed: asks the generator, checks its answer, hydrates the posts.

Its index is the world itself, so it is never behind. No blocks, mutes or labels.
"""

import contextlib
import http.client
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from simnet.clock import time_us_of_iso
from simnet.repo import StoredRecord
from simnet.world import World

POST, REPOST = "app.bsky.feed.post", "app.bsky.feed.repost"
SKELETON = "/xrpc/app.bsky.feed.getFeedSkeleton"
# After this the official AppView gives up.
TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 5_000_000
_REASON_REPOST = "app.bsky.feed.defs#skeletonReasonRepost"
_AT_URI = re.compile(r"at://did:[a-z]+:[A-Za-z0-9._:%-]+/[a-zA-Z0-9.-]+/[A-Za-z0-9_~.:-]+")


class FeedFailed(Exception):
    """What an app is shown instead of a feed."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(f"{status} {error}: {message}")
        self.status = status
        self.error = error


@dataclass(frozen=True, slots=True)
class HydratedItem:
    """One item as an app gets it. `sort_us` is where the official order puts it."""

    uri: str
    text: str
    author: str
    created_at: str
    sort_us: int
    reposted_by: str | None = None
    repost_uri: str | None = None
    feed_context: str | None = None
    is_reply: bool = False
    quoted_uri: str | None = None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page as an app gets it, and what the generator had said (`skeleton`)."""

    items: tuple[HydratedItem, ...]
    cursor: str | None
    skeleton: dict[str, Any]
    seconds: float


class AppView:
    """Knows generators by the DID in their records."""

    def __init__(self, world: World) -> None:
        # Endpoint by service DID.
        self.services: dict[str, str] = {}
        self._world = world

    def service_did(self, feed_uri: str) -> str:
        """Who serves a feed, by its record; raises FeedFailed if there is no such record."""
        stored = self._world.lookup(feed_uri)
        if stored is None or stored.ref.collection != "app.bsky.feed.generator":
            raise FeedFailed(400, "UnknownFeed", "could not find feed")
        return str(stored.value["did"])

    def get_feed(
        self,
        feed_uri: str,
        limit: int,
        cursor: str | None,
        sign: Callable[[str, str], str] | None,
    ) -> FeedPage:
        """One page; `sign(aud, lxm)` is the viewer's PDS, None stands for no login."""
        aud = self.service_did(feed_uri)
        query = {"feed": feed_uri, "limit": str(limit), **({"cursor": cursor} if cursor else {})}
        headers = {"User-Agent": "BskyAppView", "Accept-Language": "en"}
        if sign is not None:
            headers["Authorization"] = f"Bearer {sign(aud, 'app.bsky.feed.getFeedSkeleton')}"
        began = time.monotonic()
        skeleton = self._ask(self._endpoint(aud), f"{SKELETON}?{urlencode(query)}", headers)
        seconds = time.monotonic() - began
        _check(skeleton)
        with self._world.lock:
            hydrated = [self._hydrate(item) for item in skeleton["feed"][:limit]]
        items = tuple(item for item in hydrated if item is not None)
        following = skeleton.get("cursor")
        ended = not skeleton["feed"] or following == cursor
        return FeedPage(items, None if ended else following, skeleton, seconds)

    def _endpoint(self, did: str) -> str:
        if did in self.services:
            return self.services[did]
        if not did.startswith("did:web:localhost%3A"):
            raise FeedFailed(400, "InvalidRequest", f"could not resolve did document {did}")
        origin = "http://" + unquote(did.removeprefix("did:web:"))
        document = self._ask(origin, "/.well-known/did.json", {})
        for service in document.get("service", []):
            if service["id"].endswith("#bsky_fg") and service["type"] == "BskyFeedGenerator":
                return str(service["serviceEndpoint"])
        raise FeedFailed(400, "InvalidRequest", f"invalid feed generator service details in {did}")

    def _ask(self, origin: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
        address = urlsplit(origin)
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port or 80, timeout=TIMEOUT_SECONDS
        )
        with contextlib.closing(connection):
            try:
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES)
            except (OSError, http.client.HTTPException) as broken:
                raise FeedFailed(502, "UpstreamFailure", "feed unavailable") from broken
        return _answer(response.status, response.getheader("Content-Type") or "", body)

    def _hydrate(self, item: dict[str, Any]) -> HydratedItem | None:
        post = self._visible(item["post"], POST)
        if post is None:
            return None
        shown = HydratedItem(
            uri=post.ref.uri,
            text=post.value["text"],
            author=self._handle(post),
            created_at=post.value["createdAt"],
            sort_us=_sort_us(post),
            feed_context=item.get("feedContext"),
            is_reply="reply" in post.value,
            quoted_uri=post.value.get("embed", {}).get("record", {}).get("uri"),
        )
        reason = item.get("reason") or {}
        if reason.get("$type") != _REASON_REPOST:
            return shown
        repost = self._visible(reason["repost"], REPOST)
        if repost is None or repost.value["subject"]["uri"] != post.ref.uri:
            return None
        return _reposted(shown, repost, self._handle(repost))

    def _visible(self, uri: str, collection: str) -> StoredRecord | None:
        """A record that the AppView has indexed and may show."""
        stored = self._world.lookup(uri)
        if stored is None or stored.ref.collection != collection:
            return None
        if self._world.accounts[stored.ref.did].status != "active":
            return None
        is_valid = time_us_of_iso(stored.value.get("createdAt")) is not None and (
            collection != POST or isinstance(stored.value.get("text"), str)
        )
        return stored if is_valid else None

    def _handle(self, stored: StoredRecord) -> str:
        return self._world.accounts[stored.ref.did].handle


def _reposted(shown: HydratedItem, repost: StoredRecord, by: str) -> HydratedItem:
    return HydratedItem(
        uri=shown.uri,
        text=shown.text,
        author=shown.author,
        created_at=shown.created_at,
        sort_us=_sort_us(repost),
        reposted_by=by,
        repost_uri=repost.ref.uri,
        feed_context=shown.feed_context,
        is_reply=shown.is_reply,
        quoted_uri=shown.quoted_uri,
    )


def _sort_us(stored: StoredRecord) -> int:
    created_us = time_us_of_iso(stored.value["createdAt"])
    return stored.first_us if created_us is None else min(created_us, stored.first_us)


def _answer(status: int, content_type: str, body: bytes) -> dict[str, Any]:
    """The JSON of an answer, or the error the official AppView makes of it."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if status != 200:
        known = isinstance(parsed, dict) and isinstance(parsed.get("error"), str)
        error = parsed["error"] if known else "InternalServerError"
        message = str(parsed.get("message", "")) if known else "the answer was no XRPC error"
        raise FeedFailed(502 if status >= 500 and status != 503 else status, error, message)
    if not content_type.startswith("application/json") or not isinstance(parsed, dict):
        raise FeedFailed(502, "InvalidFeedResponse", "invalid response from feed generator")
    return parsed


def _check(skeleton: dict[str, Any]) -> None:
    """One wrong field loses the whole page, as with the official validator."""
    items = skeleton.get("feed")
    faults = [
        not isinstance(items, list) or not all(_is_item(item) for item in items),
        not isinstance(skeleton.get("cursor", ""), str),
        not isinstance(skeleton.get("reqId", ""), str) or len(skeleton.get("reqId", "")) > 100,
    ]
    if any(faults):
        raise FeedFailed(502, "InvalidFeedResponse", "invalid response from feed generator")


def _is_item(item: object) -> bool:
    if not isinstance(item, dict) or not _is_at_uri(item.get("post")):
        return False
    context = item.get("feedContext", "")
    if not isinstance(context, str) or len(context.encode()) > 2000:
        return False
    if "reason" not in item:
        return True
    reason = item["reason"]
    if not isinstance(reason, dict) or not isinstance(reason.get("$type"), str):
        return False
    return reason["$type"] != _REASON_REPOST or _is_at_uri(reason.get("repost"))


def _is_at_uri(value: object) -> bool:
    return isinstance(value, str) and _AT_URI.fullmatch(value) is not None
