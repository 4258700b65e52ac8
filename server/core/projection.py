"""What a record means for our tables. Pure: the caller supplies the time.

Live events and backfilled records go through the same functions, so that both give equal rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.core.errors import BadRecord
from server.core.events import RecordOp
from server.core.syntax import (
    FOLLOW,
    POST,
    REPOST,
    datetime_ms,
    is_did,
    is_tid,
    split_at_uri,
    tid_to_int,
    tid_us,
)

WANTED_COLLECTIONS = frozenset((POST, REPOST, FOLLOW))

# Bits of SaveItem.flags.
REPLY, MEDIA, QUOTE = 1, 2, 4

# The lexicon's bound on a post's text. (Its bound of 300 graphemes is the PDS's business.)
MAX_TEXT_BYTES = 3000
# How much later than its key a backfilled record may be dated before its date is not believed any
# more. Writers make both at one moment, but for the milliseconds that order a thread.
CLOCK_SKEW_MS = 1_000

# A sort key is milliseconds << 21 | 18 bits of the CID << 3 | 3 bits to tell equals apart.
KEY_TIE_BITS = 21
# The millisecond above the last date is room for its equals.
_MAX_MS = 2**42 - 2

# Embeds that are pictures or video. (A GIF is an external link by its kind, and no picture here.)
_MEDIA_EMBEDS = ("app.bsky.embed.images", "app.bsky.embed.gallery", "app.bsky.embed.video")
# Nearly every post there is: the syntax in full costs four times as much.
_USUAL_POST = re.compile(rf"at://(did:plc:[a-z2-7]{{24}})/{re.escape(POST)}/([2-7a-z]{{13}})")

_CID_PREFIX = b"\x01\x71\x12\x20"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
# Base-32 digits by their place in ASCII: the AppView compares CIDs as text.
_RANK = [sorted(_BASE32).index(digit) for digit in _BASE32]
_TEXT_RANK = {digit: _RANK[value] for value, digit in enumerate(_BASE32)}


@dataclass(frozen=True, slots=True)
class RecordRef:
    """A record of somebody's; the collection follows from where the reference stands."""

    did: str
    rkey: str


@dataclass(frozen=True, slots=True)
class SaveItem:
    """A post or repost that is there, new or changed.

    A new row stands at `sort_ms`; an edit keeps its place, or sinks to `created_ms` if that is
    earlier. `tie` orders equal milliseconds as the AppView does: 18 bits, by CID. `subject` is what
    is reposted, or the parent of a reply (None if it replies to no post); `root` is the thread's
    root where that is not the parent.
    """

    collection: str
    rkey: str
    created_ms: int
    sort_ms: int
    tie: int
    flags: int
    subject: RecordRef | None
    root: RecordRef | None


@dataclass(frozen=True, slots=True)
class SaveFollow:
    """A follow record that is there, new or changed."""

    rkey: str
    subject: str


@dataclass(frozen=True, slots=True)
class DropRecord:
    """A record that is gone."""

    collection: str
    rkey: str


Change = SaveItem | SaveFollow | DropRecord


def project_op(op: RecordOp, seen_ms: int) -> Change | None:
    """What an op of the live stream does to our tables; None for a record that fails its lexicon.

    `seen_ms` is when the source says it happened: the AppView's `indexedAt`. An edit that makes a
    record invalid changes nothing, as the AppView keeps what it had.
    """
    if op.cid is None:
        return DropRecord(op.collection, op.rkey)
    try:
        return project_record(op.collection, op.rkey, tie_of_cid(op.cid), op.record, seen_ms)
    except BadRecord:
        return None


def project_record(
    collection: str, rkey: str, tie: int, record: object, seen_ms: int
) -> SaveItem | SaveFollow:
    """The row for a record of a wanted collection. Raises BadRecord where its lexicon does."""
    if not isinstance(record, dict) or record.get("$type", collection) != collection:
        raise BadRecord(f"not a record of {collection}")
    created_ms = datetime_ms(record.get("createdAt"))
    if created_ms is None:
        raise BadRecord("createdAt is no datetime")
    if collection == FOLLOW:
        subject = record.get("subject")
        if not isinstance(subject, str) or not is_did(subject):
            raise BadRecord("subject of a follow is no DID")
        return SaveFollow(rkey, subject)
    created_ms = min(max(created_ms, 0), _MAX_MS)
    place = (collection, rkey, created_ms, min(created_ms, max(seen_ms, 0)), tie)
    if collection == REPOST:
        reposted = _strong_ref(record.get("subject"))
        if reposted is None:
            raise BadRecord("a repost of no post: the AppView cannot show it")
        return SaveItem(*place, 0, reposted, None)
    flags, parent, root = _project_post(record)
    return SaveItem(*place, flags, parent, root)


def backfill_seen_ms(rkey: str, created_at: object, now_ms: int) -> int:
    """The best bound on when a record fetched at `now_ms` was first seen by anybody.

    Nobody can tell any more. A date in the future is a lie whose truth the record key knows best:
    a TID is made when the record is. Keys can be chosen freely, so they are believed only there.
    """
    if not is_tid(rkey):
        return now_ms
    key_ms = tid_us(tid_to_int(rkey)) // 1000
    if key_ms > now_ms:
        return now_ms
    created_ms = datetime_ms(created_at)
    return now_ms if created_ms is None or created_ms <= key_ms + CLOCK_SKEW_MS else key_ms


def tie_of_cid(cid: bytes) -> int:
    """18 bits of a raw CID that compare as its text does. Raises BadRecord for another kind."""
    if len(cid) != 36 or not cid.startswith(_CID_PREFIX):
        raise BadRecord("CID is not of a record")
    bits = int.from_bytes(cid[4:7]) >> 6
    low, middle, high = _RANK[bits & 31], _RANK[bits >> 5 & 31], _RANK[bits >> 10 & 31]
    return bits >> 15 << 15 | high << 10 | middle << 5 | low


def tie_of_cid_text(cid: object) -> int:
    """`tie_of_cid` of a CID as text (`bafyrei…`). Raises BadRecord for other kinds of CID."""
    if not isinstance(cid, str) or len(cid) != 59 or not cid.startswith("bafyrei"):
        raise BadRecord("CID is not of a record")
    try:
        # The first digit after the prefix has two bits of it: `a` to `h`, so 0 to 7.
        tie = _BASE32.index(cid[7])
        for digit in cid[8:11]:
            tie = tie << 5 | _TEXT_RANK[digit]
    except (KeyError, ValueError) as error:
        raise BadRecord("CID is no base-32") from error
    return tie & 0x3FFFF


def sort_key(sort_ms: int, tie: int) -> int:
    """The place of an item in the one total order. Up to 8 equals follow each other by one."""
    return sort_ms << KEY_TIE_BITS | tie << 3


def _project_post(record: Mapping[str, Any]) -> tuple[int, RecordRef | None, RecordRef | None]:
    text = record.get("text")
    if not isinstance(text, str) or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise BadRecord("text is missing or too long")
    flags = _embed_flags(record.get("embed"))
    reply = record.get("reply")
    if reply is None:
        return flags, None, None
    if not isinstance(reply, dict):
        raise BadRecord("reply is no object")
    parent, root = _strong_ref(reply.get("parent")), _strong_ref(reply.get("root"))
    if root is None:
        # To the AppView a thread that begins with no post is a reply to nothing.
        return flags | REPLY, None, None
    return flags | REPLY, parent, None if root == parent else root


def _embed_flags(embed: object) -> int:
    if embed is None:
        return 0
    if not isinstance(embed, dict) or not isinstance(embed.get("$type"), str):
        raise BadRecord("embed is no union")
    kind = embed["$type"]
    if kind in _MEDIA_EMBEDS:
        return MEDIA
    if kind == "app.bsky.embed.record":
        return QUOTE
    if kind == "app.bsky.embed.recordWithMedia":
        media = embed.get("media")
        kind = media.get("$type") if isinstance(media, dict) else None
        return QUOTE | (MEDIA if kind in _MEDIA_EMBEDS else 0)
    return 0


def _strong_ref(ref: object) -> RecordRef | None:
    """What a reference names; None for a sound one to something else than a post."""
    if not isinstance(ref, dict) or not isinstance(ref.get("cid"), str):
        raise BadRecord("no strong reference")
    uri = ref.get("uri")
    if not isinstance(uri, str) or not uri.startswith("at://"):
        raise BadRecord("reference has no at-URI")
    usual = _USUAL_POST.fullmatch(uri)
    if usual is not None:
        return RecordRef(usual[1], usual[2])
    parts = split_at_uri(uri)
    if parts is None or parts[1] != POST or not is_did(parts[0]):
        return None
    return RecordRef(parts[0], parts[2])
