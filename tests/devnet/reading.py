"""What a viewer sees: pages of getFeed and getTimeline, hydrated by the AppView."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.devnet.client import Account, XrpcFailed
from tests.devnet.service import Service

# The official timeline drops own items past the tenth of a page. Pages of ten are safe but slow to
# read; a larger page is as good if it shows few own items (some may be filtered out and not show).
UNCAPPED_LIMIT, LARGE_LIMIT, FEW_OWN = 10, 20, 7

MAX_PAGES = 2000


@dataclass(frozen=True, slots=True)
class Seen:
    """One item of a hydrated page. `view` is the whole feedViewPost."""

    post: str
    repost: str | None
    sort_time: str
    view: dict[str, Any] = field(repr=False, compare=False, hash=False)

    @classmethod
    def of(cls, view: dict[str, Any]) -> Seen:
        reason = view.get("reason")
        # The AppView's `indexedAt` of a view is its sort time: the earlier of date and first sight.
        placed = view["post"] if reason is None else reason
        return cls(view["post"]["uri"], reason and reason["uri"], placed["indexedAt"], view)

    @property
    def key(self) -> tuple[str, str | None]:
        return self.post, self.repost

    @property
    def writer(self) -> dict[str, Any]:
        """Who wrote the item: the post, or the repost of it."""
        profile: dict[str, Any] = (
            self.view["reason"]["by"] if self.repost else self.view["post"]["author"]
        )
        return profile

    def is_by(self, did: str) -> bool:
        return bool(self.writer["did"] == did)

    def __str__(self) -> str:
        author = self.view["post"]["author"]["handle"]
        by = self.view.get("reason", {}).get("by", {}).get("handle")
        text = self.view["post"]["record"].get("text")
        reposted = f" (reposted by {by}: {self.repost})" if by else ""
        return f"{self.sort_time} {author} {text!r} {self.post}{reposted}"


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Seen]
    cursor: str | None


def feed_page(
    viewer: Account, service: Service, rkey: str, limit: int = 30, cursor: str | None = None
) -> Page:
    """One page of our feed, asked for as the app does: through the viewer's PDS."""
    uri = service.feed_uri(rkey)
    return _page(viewer.query("app.bsky.feed.getFeed", feed=uri, limit=limit, cursor=cursor))


def open_feed(viewer: Account, service: Service, rkey: str) -> None:
    """As the app does when somebody comes for the first time; there may be nothing yet."""
    try:
        feed_page(viewer, service, rkey)
    except XrpcFailed as failed:
        if failed.name != "FeedNotReady":
            raise


def timeline_page(viewer: Account, limit: int, cursor: str | None = None) -> Page:
    return _page(viewer.query("app.bsky.feed.getTimeline", limit=limit, cursor=cursor))


def whole_feed(viewer: Account, service: Service, rkey: str, limit: int = 100) -> list[Seen]:
    return _join(lambda cursor: feed_page(viewer, service, rkey, limit, cursor))


def whole_timeline(viewer: Account, *, careful: bool = False) -> list[Seen]:
    """The official timeline to its end, with all own items. `careful` trusts no large page."""

    def read(cursor: str | None) -> Page:
        if not careful:
            page = timeline_page(viewer, LARGE_LIMIT, cursor)
            if sum(item.is_by(viewer.did) for item in page.items) <= FEW_OWN:
                return page
        return timeline_page(viewer, UNCAPPED_LIMIT, cursor)

    return _join(read)


def texts(items: Iterable[Seen]) -> list[str]:
    """The posts' texts, a repost marked by who did it: `text <- name`."""
    shown = []
    for item in items:
        by = item.view.get("reason", {}).get("by", {}).get("handle", "")
        suffix = f" <- {by.split('-')[0]}" if by else ""
        shown.append(item.view["post"]["record"]["text"] + suffix)
    return shown


def wait_for(
    read: Callable[[], object], wanted: object, service: Service, seconds: float = 15.0
) -> None:
    """Read until it is what is wanted; a failed request counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        got: object
        try:
            got = read()
        except XrpcFailed as failed:
            got = failed
        if got == wanted:
            return
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {seconds:.0f} s:\n got    {got}\n wanted {wanted}\n{service.log_text()}"
            )
        time.sleep(0.1)


def _page(body: dict[str, Any]) -> Page:
    return Page([Seen.of(view) for view in body["feed"]], body.get("cursor"))


def _join(read: Callable[[str | None], Page]) -> list[Seen]:
    items: list[Seen] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = read(cursor)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            return items
    raise AssertionError(f"no end after {MAX_PAGES} pages")
