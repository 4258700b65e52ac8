"""Why a record is, or is not, in a viewer's feeds: the reasoning of `explain`, over our rows.

Whether a feed shows an item is asked of the same function that makes its pages; the reasons are
found beside it. So the answer is right even where no reason is found.
"""

from dataclasses import dataclass, fields, replace

from server.core.feed import Feed, TimelineFilter
from server.core.syntax import POST, is_tid, tid_to_int, tid_us
from server.storage import authors, evidence, follows, ledger, repos, timeline, viewers
from server.storage.evidence import Item, Relative, RepoFacts
from server.storage.items import COLLECTIONS
from server.storage.ledger import Shortfall, Window
from server.storage.records import Key

# How many items of a page the app asks for, and how far down we count.
PAGE_ITEMS = 30
COUNTED_ITEMS = 50_000
_STEP = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """A post or a repost by its URI, the authority a DID."""

    did: str
    collection: str
    rkey: str

    @property
    def uri(self) -> str:
        """As the network names it."""
        return f"at://{self.did}/{self.collection}/{self.rkey}"


@dataclass(frozen=True, slots=True)
class InFeed:
    """One feed's word: shown at `position` (from 1; None beyond COUNTED_ITEMS), or why not."""

    feed: str
    is_shown: bool
    position: int | None
    page: int | None
    filtered_by: list[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, and everything that it rests on.

    `reason` is the first of these that holds: "no viewer", "shown", "follows unknown" or "follows
    cut" or "not followed", "inactive", "filtered", "deleted", "not fetched", "beyond horizon", "not
    heard yet", "unknown record". `origin` is "stream" where that can be told, else None.
    """

    viewer: str
    uri: str
    reason: str
    followed_since_us: list[int | None]
    is_own: bool
    author: RepoFacts | None
    shortfall: Shortfall | None
    deleted_us: int | None
    key_us: int | None
    sort_us: int | None
    origin: str | None
    relatives: list[Relative]
    reposted_by: list[str]
    stream_until_us: int | None
    feeds: list[InFeed]


def judge(
    viewer: str, record: Record, feeds: tuple[Feed, ...], window: Window, now_us: int
) -> Verdict:
    """Look at everything that bears on one record in one viewer's feeds."""
    viewer_id, author_id = authors.author_id(viewer), authors.author_id(record.did)
    is_viewer = viewers.find(viewer) is not None
    key = item = home = None
    if author_id is not None:
        home = evidence.repo(author_id)
        key = evidence.key_of(author_id, record.collection, record.rkey)
        item = None if key is None else evidence.item(key)
    found = Verdict(
        viewer=viewer,
        uri=record.uri,
        reason="",
        followed_since_us=[],
        is_own=viewer == record.did,
        author=home,
        shortfall=None if author_id is None else ledger.of_author(author_id, window),
        deleted_us=None if key is None or item is not None else evidence.deleted_us(key),
        key_us=_key_us(record.rkey),
        sort_us=None if item is None else item.sort_us,
        origin=_origin(item, home),
        relatives=[],
        reposted_by=[],
        stream_until_us=ledger.stream_place_us(),
        feeds=[],
    )
    if viewer_id is not None and author_id is not None:
        found = _with_viewer(found, viewer_id, author_id, key, item)
        if is_viewer and item is not None:
            found = replace(
                found, feeds=[_in_feed(viewer_id, item, feed, now_us) for feed in feeds]
            )
    return replace(found, reason=_reason(found, is_viewer, viewer_id))


def _with_viewer(
    found: Verdict, viewer_id: int, author_id: int, key: Key | None, item: Item | None
) -> Verdict:
    """What depends on who asks."""
    follows = evidence.follow_rkeys(viewer_id, author_id)
    is_post = key is not None and key[2] == COLLECTIONS[POST]
    return replace(
        found,
        followed_since_us=[_key_us(rkey) for rkey in follows],
        relatives=evidence.relatives(viewer_id, item) if is_post and item is not None else [],
        reposted_by=evidence.reposts_by_followed(viewer_id, key) if key and is_post else [],
    )


def _reason(found: Verdict, is_viewer: bool, viewer_id: int | None) -> str:
    if not is_viewer:
        return "no viewer"
    if any(feed.is_shown for feed in found.feeds):
        return "shown"
    if not found.is_own and not found.followed_since_us:
        own = None if viewer_id is None else evidence.repo(viewer_id)
        if viewer_id is None or own is None or own.state < repos.PARTIAL:
            return "follows unknown"
        return "follows cut" if follows.are_cut(viewer_id) else "not followed"
    if found.author is not None and not found.author.is_active:
        return "inactive"
    if found.sort_us is not None:
        return "filtered"
    return _absence(found)


def _absence(found: Verdict) -> str:
    """Why there is no row, of an author who is followed and active."""
    if found.deleted_us is not None:
        return "deleted"
    if found.author is None or found.author.state != repos.LIVE:
        return "not fetched"
    if found.key_us is not None and found.key_us <= tid_us(found.author.horizon_rkey):
        return "beyond horizon"
    until_us = found.stream_until_us
    if until_us is None or (found.key_us is not None and found.key_us > until_us):
        return "not heard yet"
    return "unknown record"


def _in_feed(viewer_id: int, item: Item, feed: Feed, now_us: int) -> InFeed:
    if not _shows(viewer_id, item, feed.filter, now_us):
        filtered_by = _filtered_by(viewer_id, item, feed.filter, now_us)
        return InFeed(feed.rkey, False, None, None, filtered_by)
    if feed.oldest_first:
        # Its pages begin where the viewer stopped: there is no fixed place.
        return InFeed(feed.rkey, True, None, None, [])
    position = _position(viewer_id, item, feed.filter, now_us)
    page = None if position is None else (position - 1) // PAGE_ITEMS + 1
    return InFeed(feed.rkey, True, position, page, [])


def _shows(viewer_id: int, item: Item, shown: TimelineFilter, now_us: int) -> bool:
    page = timeline.timeline_page(viewer_id, shown, item.key + 1, 1, now_us)
    return [one.key for one in page.items] == [item.key]


def _filtered_by(viewer_id: int, item: Item, shown: TimelineFilter, now_us: int) -> list[str]:
    """The parts of a feed's filter that leave the item out, each taken alone."""
    everything = TimelineFilter()
    rules = []
    for rule in fields(shown):
        wanted = getattr(shown, rule.name)
        if wanted != getattr(everything, rule.name):
            alone = replace(everything, **{rule.name: wanted})
            if not _shows(viewer_id, item, alone, now_us):
                rules.append(f"{rule.name}={wanted}")
    return rules


def _position(viewer_id: int, item: Item, shown: TimelineFilter, now_us: int) -> int | None:
    """How many items down it stands, from 1."""
    below, above = None, 0
    while above < COUNTED_ITEMS:
        page = timeline.timeline_page(viewer_id, shown, below, _STEP, now_us)
        keys = [one.key for one in page.items]
        if item.key in keys:
            return above + keys.index(item.key) + 1
        if not page.has_more:
            return None
        above, below = above + len(keys), keys[-1]
    return None


def _origin(item: Item | None, home: RepoFacts | None) -> str | None:
    """Nothing is fetched of a repo after it went live, so what was seen later was heard."""
    if item is None or home is None or home.live_us is None or home.state != repos.LIVE:
        return None
    return "stream" if item.sort_us > home.live_us else None


def _key_us(rkey: str) -> int | None:
    """When a record key says that it was made; None for one that says nothing."""
    return tid_us(tid_to_int(rkey)) if is_tid(rkey) else None
