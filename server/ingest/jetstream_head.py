"""How messages of a Jetstream begin: whose they are, without reading the rest. Pure.

`without_strangers` passes over messages about nobody we track by their first bytes. (One that named
two accounts would be taken for one about the first.) It looks for the DIDs that nearly all have;
`head_of` knows all that there are, or whoever has another one could make a hole of everybody.
"""

import re
from functools import lru_cache

from server.core.syntax import datetime_ms
from server.ingest.sift import sifter

V2_KINDS = "network.bsky.jetstream.subscribeEvents#"

# How a message begins, in the order in which both versions are written.
_KIND = rb"(?:commit|account|identity|sync)"
_V1_HEAD = rb'\{"did":"(%b)","time_us":[0-9]{1,18},"kind":"' + _KIND + rb'"'
_V2_HEAD = (
    rb'\{"\$type":"message","payload":\{"\$type":"'
    + re.escape(V2_KINDS.encode())
    + _KIND
    + rb'","seq":[0-9]{1,18},"did":"(%b)"'
)
_USUAL_DID, _ANY_DID = rb"did:plc:[a-z2-7]{24}", rb"did:[a-z]+:[A-Za-z0-9._:%-]+"
without_strangers = sifter(*(re.compile(head % _USUAL_DID) for head in (_V1_HEAD, _V2_HEAD)))
_ANY_HEAD = tuple(re.compile(head % _ANY_DID) for head in (_V1_HEAD, _V2_HEAD))
# In so many bytes both have said whose it is; a DID has 2,048 at most. So many after that, at the
# latest, they have said what time it was, and before that nobody else has a say.
_HEAD_BYTES, _TIME_BYTES = 2_500, 60
_HEAD_TIME = re.compile(rb'"time_us":([0-9]{1,18})|"time":"([^"]*)"')


def head_of(message: bytes | str) -> tuple[str, int] | None:
    """Whose a message is, and its time in microseconds (0: unknown); None if it begins otherwise.

    Servers write heads, in one order, and anybody what comes after them.
    """
    head = message[:_HEAD_BYTES]
    head = head.encode("utf-8", "replace") if isinstance(head, str) else head
    found = _ANY_HEAD[0].match(head) or _ANY_HEAD[1].match(head)
    if found is None:
        return None
    said = _HEAD_TIME.search(head, 0, found.end() + _TIME_BYTES)
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
