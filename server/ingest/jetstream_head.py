"""How messages of a Jetstream begin: whose they are, without reading the rest. Pure.

`without_strangers` passes over messages about nobody we track by their first bytes. (One that named
two accounts would be taken for one about the first.)
"""

import re
from functools import lru_cache

from server.core.syntax import datetime_ms
from server.ingest.sift import sifter

V2_KINDS = "network.bsky.jetstream.subscribeEvents#"

# How a message begins, in the order in which both versions are written.
_KIND = rb"(?:commit|account|identity|sync)"
_DID = rb"(did:plc:[a-z2-7]{24})"
_V1_HEAD = re.compile(rb'\{"did":"' + _DID + rb'","time_us":[0-9]{1,18},"kind":"' + _KIND + rb'"')
_V2_HEAD = re.compile(
    rb'\{"\$type":"message","payload":\{"\$type":"'
    + re.escape(V2_KINDS.encode())
    + _KIND
    + rb'","seq":[0-9]{1,18},"did":"'
    + _DID
    + rb'"'
)
without_strangers = sifter(_V1_HEAD, _V2_HEAD)
# In so many bytes both have said whose it is and what time it was.
_HEAD_BYTES = 250
_HEAD_TIME = re.compile(rb'"time_us":([0-9]{1,18})|"time":"([^"]*)"')


def head_of(message: bytes | str) -> tuple[str, int] | None:
    """Whose a message is, and its time in microseconds (0: unknown); None if it begins otherwise.

    Servers write heads, in one order, and anybody what comes after them.
    """
    head = message[:_HEAD_BYTES]
    head = head.encode("utf-8", "replace") if isinstance(head, str) else head
    found = _V1_HEAD.match(head) or _V2_HEAD.match(head)
    if found is None:
        return None
    said = _HEAD_TIME.search(head)
    number, text = (None, b"") if said is None else said.groups()
    return found[1].decode(), int(number) if number else text_us(text.decode("latin-1"))


def text_us(text: object) -> int:
    """The time of an event of version 2, in microseconds; 0 for what is none."""
    if not isinstance(text, str):
        return 0
    if len(text) == 27 and text[19] == "." and text[26] == "Z":
        fraction = text[20:26]
        if fraction.isascii() and fraction.isdigit():
            return _second_us(text[:19]) + int(fraction)
    return max(datetime_ms(text) or 0, 0) * 1000


@lru_cache(maxsize=64)
def _second_us(text: str) -> int:
    return max(datetime_ms(text + "Z") or 0, 0) * 1000
