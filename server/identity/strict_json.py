"""JSON from strangers, bounded before it is parsed. Knows nothing about what the JSON means.

The standard parser turns two bytes into an object of sixty, and recurses as deep as it is told to.
While it works, no other thread does: 100 kB of tiny texts are 10 ms, and pages of records, which
are larger, have a parser of their own (backfill/record_json.py).
"""

import json
import re
from itertools import accumulate
from typing import NoReturn

# Levels of nesting. Records and DID documents stay under ten.
MAX_DEPTH = 64

# Objects and arrays in one text. The answers that are read have a few thousand; a body of 5 MB made
# of `{}` would have two million of them, and cost a gigabyte.
MAX_CONTAINERS = 100_000

# Possessive, and with an optional end: every match makes progress, so an unclosed string cannot
# make the scan quadratic. What is malformed is refused by the parser afterwards.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OPENING = ord("[")
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse_json(body: bytes, *, unique_keys: bool = False) -> object:
    """The value that `body` holds, in UTF-8.

    Raises ValueError for anything that is not JSON, nests deeper than MAX_DEPTH, or, with
    `unique_keys`, names a key twice in one object. Without it the last one wins.
    """
    _check_shape(body)
    try:
        return (_UNIQUE if unique_keys else _PLAIN).decode(body.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("the JSON nests too deeply") from error


def _check_shape(body: bytes) -> None:
    brackets = _STRING.sub(b"", body).translate(_SQUARE, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise ValueError(f"the JSON has more than {MAX_CONTAINERS} objects and arrays")
    depth = max(accumulate(1 if byte == _OPENING else -1 for byte in brackets), default=0)
    if depth > MAX_DEPTH:
        raise ValueError("the JSON nests too deeply")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the JSON names a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# `json.loads` makes a new decoder at each call that says anything but the usual.
_PLAIN = json.JSONDecoder(parse_constant=_refuse_constant)
_UNIQUE = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)
