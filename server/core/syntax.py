"""The protocol's small languages: DIDs, record keys, TIDs, at-URIs, datetimes, host names. Pure.

Regular expressions are matched with `fullmatch`: `$` would let a trailing newline through.
"""

import re
from datetime import UTC, datetime

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"

# The specification's own bound; longer ones break no rule of syntax but are of no use to anybody.
MAX_DID_BYTES = 2048

_PLC = re.compile(r"did:plc:[a-z2-7]{24}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_RKEY = re.compile(r"[A-Za-z0-9_~.:-]{1,512}")
_TID = re.compile(r"[2-7a-j][2-7a-z]{12}")
_AT_URI = re.compile(r"at://(did:[a-z]+:[A-Za-z0-9._:%-]+)/([a-zA-Z0-9.-]+)/([A-Za-z0-9_~.:-]+)")
_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,20}))?(Z|[+-]\d\d:\d\d)"
)

_TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
# Two digits at a time: a page formats hundreds of TIDs, and digit by digit that costs as much as
# the query that found them.
_PAIRS = [high + low for high in _TID_ALPHABET for low in _TID_ALPHABET]
_TO_BASE32HEX = str.maketrans(_TID_ALPHABET, "0123456789abcdefghijklmnopqrstuv")


def is_did(text: str) -> bool:
    """Whether `text` is a DID of an account: did:plc, or did:web with nothing but a host name."""
    if _PLC.fullmatch(text):
        return True
    return text.startswith("did:web:") and is_hostname(text[8:])


def is_hostname(text: str) -> bool:
    """Whether `text` is a lower-case DNS name of two labels or more, and no IP address."""
    return len(text) <= 253 and _HOSTNAME.fullmatch(text) is not None


def is_rkey(text: str) -> bool:
    """Whether `text` is a record key. Lexicons ask for TIDs, but repos hold other keys as well."""
    return _RKEY.fullmatch(text) is not None and text not in (".", "..")


def is_tid(text: str) -> bool:
    """Whether `text` is a TID: 13 characters that sort as the 63-bit numbers they stand for."""
    return _TID.fullmatch(text) is not None


def tid_to_int(tid: str) -> int:
    """The number in a TID that `is_tid` accepts: microseconds << 10 | clock id; below 2**63."""
    return int(tid.translate(_TO_BASE32HEX), 32)


def int_to_tid(number: int) -> str:
    """The TID of a number from 0 to 2**63 - 1."""
    pairs = _PAIRS
    return (
        _TID_ALPHABET[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def tid_us(number: int) -> int:
    """When a TID says it was made, in microseconds. Chosen by whoever made it: a hint, no proof."""
    return number >> 10


def split_at_uri(uri: str) -> tuple[str, str, str] | None:
    """(DID, collection, rkey) of a record's URI; None for anything else, handles included."""
    match = _AT_URI.fullmatch(uri)
    if match is None or len(match[1]) > MAX_DID_BYTES or not is_rkey(match[3]):
        return None
    return match[1], match[2], match[3]


def is_at_uri(uri: str, collection: str) -> bool:
    """Whether `uri` names a record of `collection` by its author's DID."""
    parts = split_at_uri(uri)
    return parts is not None and parts[1] == collection


def datetime_ms(text: object) -> int | None:
    """A lexicon datetime in whole milliseconds since 1970; None if the lexicon refuses it.

    The rule is the specification's: RFC 3339 and ISO 8601 both, so a `T`, seconds, a zone, a year
    from 0001, and `-00:00` is no zone. Milliseconds, rounded down, are what the AppView sorts by.
    """
    if not isinstance(text, str) or len(text) > 64:
        return None
    match = _DATETIME.fullmatch(text)
    if match is None or not text.isascii() or match[8] == "-00:00":
        return None
    seconds = _epoch_seconds(match)
    if seconds is None:
        return None
    return seconds * 1000 + int((match[7] or "")[:3].ljust(3, "0"))


def _epoch_seconds(match: re.Match[str]) -> int | None:
    offset_s = 0
    if match[8] != "Z":
        hours, minutes = int(match[8][1:3]), int(match[8][4:6])
        if hours > 23 or minutes > 59:
            return None
        offset_s = (hours * 3600 + minutes * 60) * (-1 if match[8][0] == "-" else 1)
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int((moment - _EPOCH).total_seconds()) - offset_s


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
