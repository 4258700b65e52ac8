"""The protocol's small languages: DIDs, record keys, TIDs, at-URIs, datetimes, host names. Pure.

Regular expressions are matched with `fullmatch`: `$` would let a trailing newline through.
"""

import re
from datetime import date
from functools import lru_cache

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
_DATETIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")

_TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
# Two digits at a time: a page formats hundreds of TIDs, and digit by digit that costs as much as
# the query that found them.
_PAIRS = [high + low for high in _TID_ALPHABET for low in _TID_ALPHABET]
# Of bytes: a text is translated ten times as slowly.
_TO_BASE32HEX = bytes.maketrans(_TID_ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")


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
    return int(tid.encode().translate(_TO_BASE32HEX), 32)


def int_to_tid(number: int) -> str:
    """The TID of a number from 0 to 2**63 - 1."""
    pairs = _PAIRS
    return (
        f"{_TID_ALPHABET[number >> 60]}{pairs[number >> 50 & 1023]}{pairs[number >> 40 & 1023]}"
        f"{pairs[number >> 30 & 1023]}{pairs[number >> 20 & 1023]}{pairs[number >> 10 & 1023]}"
        f"{pairs[number & 1023]}"
    )


def tid_us(number: int) -> int:
    """When a TID says it was made, in microseconds. Chosen by whoever made it: a hint, no proof."""
    return number >> 10


def last_tid_of(ms: int) -> int:
    """The last TID, as a number, that says it was made in that millisecond or before."""
    return ((ms + 1) * 1000 << 10) - 1


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

    The rule is that of the official validator: RFC 3339 and ISO 8601 both, so a `T`, seconds and a
    zone, which `-00:00` is not; years 0 to 9999, in UTC. A day that its month does not have (30
    February) is one of the next month, as JavaScript and so the AppView read it. Milliseconds,
    rounded down, are what the AppView sorts by.
    """
    if not isinstance(text, str) or len(text) > 64 or not text.isascii():
        return None
    if len(text) == 24 and text[19] == "." and text[23] == "Z" and text[20:23].isdigit():
        # What nearly everybody writes. Thousands share a second, so that is read once.
        second_ms = _second_ms(text[:19])
        return None if second_ms is None else second_ms + int(text[20:23])
    return _datetime_ms(text)


@lru_cache(maxsize=4096)
def _second_ms(text: str) -> int | None:
    return _datetime_ms(text + "Z")


def _datetime_ms(text: str) -> int | None:
    match = _DATETIME.fullmatch(text)
    if match is None or match[8] == "-00:00":
        return None
    seconds = _epoch_seconds(match)
    if seconds is None or not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return None
    return seconds * 1000 + int((match[7] or "")[:3].ljust(3, "0"))


def _epoch_seconds(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    offset_s = _offset_s(match[8])
    is_sound = 1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 59
    if not is_sound or offset_s is None:
        return None
    # The calendar repeats after 400 years, and Python's has no year 0.
    shift = 400 if year == 0 else 0
    first = date(year + shift, month, 1).toordinal() - shift // 400 * _DAYS_IN_400_YEARS
    days = first + day - 1 - _EPOCH_DAY
    return days * 86_400 + hour * 3600 + minute * 60 + second - offset_s


def _offset_s(zone: str) -> int | None:
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        return None
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


_DAYS_IN_400_YEARS = 146_097
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_SECOND = -(_EPOCH_DAY + 365) * 86_400
_LAST_SECOND = (date(9999, 12, 31).toordinal() - _EPOCH_DAY + 1) * 86_400 - 1
