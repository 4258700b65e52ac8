"""What a feed's generator record should say, and what the network refuses in one.

Pure: reads no file and asks no server. What is in the repo now comes in as a dict and goes out as
another, so that fields which this program knows nothing about survive.
"""

import base64
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any

from server.core.feed import Feed

COLLECTION = "app.bsky.feed.generator"

# The lexicon's limits, each in graphemes and in UTF-8 bytes.
MAX_NAME = (24, 240)
MAX_DESCRIPTION = (300, 3000)
MAX_AVATAR_BYTES = 1_000_000
MAX_LABELS, MAX_LABEL_BYTES = 10, 128

VIDEO_MODE = "app.bsky.feed.defs#contentModeVideo"
SELF_LABELS = "com.atproto.label.defs#selfLabels"

_IMAGE_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_JOINER = "\u200d"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Avatar:
    """A picture as it will be stored."""

    data: bytes

    @property
    def mime_type(self) -> str:
        """What the first bytes say, whatever the file is called; "" for what is no PNG or JPEG."""
        for magic, mime_type in _IMAGE_TYPES.items():
            if self.data.startswith(magic):
                return mime_type
        return ""

    @property
    def cid(self) -> str:
        """The name that the PDS will give the blob: CIDv1, raw, SHA-256."""
        raw = b"\x01\x55\x12\x20" + hashlib.sha256(self.data).digest()
        return "b" + base64.b32encode(raw).decode().lower().rstrip("=")

    @property
    def blob(self) -> Record:
        """How a record refers to it."""
        return {
            "$type": "blob",
            "ref": {"$link": self.cid},
            "mimeType": self.mime_type,
            "size": len(self.data),
        }


def refusals(feed: Feed, avatar: Avatar | None) -> list[str]:
    """Why the network would not take this feed; nothing if it would."""
    problems = _too_long(feed.rkey, "display name", feed.display_name, MAX_NAME)
    problems += _too_long(feed.rkey, "description", feed.description, MAX_DESCRIPTION)
    if not feed.display_name.strip():
        problems.append(f"{feed.rkey}: the display name is empty")
    if avatar is not None and not avatar.mime_type:
        problems.append(
            f"{feed.rkey}: the avatar is neither a PNG nor a JPEG, whatever its name is"
        )
    if avatar is not None and len(avatar.data) > MAX_AVATAR_BYTES:
        problems.append(
            f"{feed.rkey}: the avatar has {len(avatar.data):,} bytes; "
            f"{MAX_AVATAR_BYTES:,} are allowed"
        )
    if len(feed.labels) > MAX_LABELS:
        problems.append(f"{feed.rkey}: {len(feed.labels)} labels; {MAX_LABELS} are allowed")
    problems += [
        f"{feed.rkey}: the label {label!r} is empty or has more than {MAX_LABEL_BYTES} bytes"
        for label in feed.labels
        if not 0 < len(label.encode()) <= MAX_LABEL_BYTES
    ]
    return problems


def wanted_record(
    current: Record | None, feed: Feed, service_did: str, avatar: Avatar | None, now: str
) -> Record:
    """The record that should stand at the feed's URI, made from the one that stands there.

    `now` is the createdAt of a new record. An avatar, labels and a content mode that we do not name
    stay as they are in the record.
    """
    old = current or {}
    record = {"createdAt": now, **old, "$type": COLLECTION, "did": service_did}
    record |= {"displayName": feed.display_name, "description": feed.description}
    if old.get("description") != feed.description:
        # Facets are byte positions in the description they were written for.
        record.pop("descriptionFacets", None)
    # Said only where it is so: apps report what they showed to feeds that ask for it.
    record.pop("acceptsInteractions", None)
    if feed.accepts_interactions:
        record["acceptsInteractions"] = True
    if feed.is_video:
        record["contentMode"] = VIDEO_MODE
    if feed.labels:
        values = [{"val": label} for label in feed.labels]
        record["labels"] = {"$type": SELF_LABELS, "values": values}
    if avatar is not None:
        record["avatar"] = avatar.blob
    return record


def differences(current: Record | None, wanted: Record) -> list[str]:
    """What would change, a line for each field; nothing if both say the same."""
    if current is None:
        return [f"{key}: {_shown(wanted[key])}" for key in sorted(wanted)]
    return [
        f"{key}: {_shown(current.get(key))} -> {_shown(wanted.get(key))}"
        for key in sorted(current.keys() | wanted.keys())
        if current.get(key) != wanted.get(key)
    ]


def count_graphemes(text: str) -> int:
    """How many characters a reader sees, by the main rules of Unicode's text segmentation.

    Accents, joined emoji, skin tones, flags, keycaps, Hangul syllables and line ends count as
    readers see them. A few rules need tables that Python does not ship: consonant clusters of Indic
    scripts count as several (a name near the limit may be refused here that the network would
    take), stray joiners and Hangul parts as none (there the PDS refuses).
    """
    count = 0
    previous = ""
    open_flag = False
    for char in text:
        is_flag_half = "\U0001f1e6" <= char <= "\U0001f1ff"
        closes_flag = is_flag_half and open_flag
        if not previous or not (closes_flag or _continues(previous, char)):
            count += 1
        open_flag = is_flag_half and not closes_flag
        previous = char
    return count


def _continues(previous: str, char: str) -> bool:
    if previous in "\r\n":
        return previous + char == "\r\n"
    return (
        char == _JOINER
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= char <= "\U000e007f"  # tags: the flags of Scotland and others
        or (previous == _JOINER and unicodedata.category(char) == "So")
        or "\u1160" <= char <= "\u11ff"  # vowels and finals of a Hangul syllable
    )


def _too_long(rkey: str, what: str, text: str, limits: tuple[int, int]) -> list[str]:
    counted = (count_graphemes(text), len(text.encode()))
    units = ("characters", "bytes")
    return [
        f"{rkey}: the {what} has {count} {unit}; {limit} are allowed"
        for count, unit, limit in zip(counted, units, limits, strict=True)
        if count > limit
    ]


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, dict) and value.get("$type") == "blob":
        return f"{value.get('mimeType')}, {value.get('size')} bytes"
    return repr(value)
