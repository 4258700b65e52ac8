"""Pages of records as JSON from strangers: read without what nobody looks at.

Of each record only the parts that `Part` names become objects, as many levels down as the
projection looks; all else is passed over in C. So what a page costs hangs on its bytes, not on what
is in them. Pages are parsed one at a time: many hostile ones take memory for one, and whoever else
needs the interpreter, as the stream's reader does, waits for one parser and not for all of them.

A page counts only as a whole, and also where nobody looks it must be JSON without NaN, lone
surrogates and too deep nesting; but bytes that are no UTF-8 are passed over there. Of a name that
comes twice in one object the last one counts. Whose records they are is not known here.
"""

import threading
from typing import TypedDict, cast

import msgspec
from msgspec import Raw

# The lexicon's bound on a page.
MAX_RECORDS = 100
# Objects in objects: a reply is in its post, a reference in the reply.
LEVELS = 3

_NULL = Raw(b"null")

# All that core/projection.py looks at, on whatever level and in whatever collection.
Part = TypedDict(
    "Part",
    {
        "$type": Raw,
        "createdAt": Raw,
        "text": Raw,
        "subject": Raw,
        "reply": Raw,
        "parent": Raw,
        "root": Raw,
        "embed": Raw,
        "media": Raw,
        "uri": Raw,
        "cid": Raw,
    },
    total=False,
)


class _Entry(msgspec.Struct, gc=False):
    uri: str
    cid: Raw = _NULL
    value: Raw = _NULL


class _Page(msgspec.Struct, gc=False):
    records: list[_Entry]
    cursor: Raw = _NULL


_turn = threading.Lock()
_page = msgspec.json.Decoder(_Page)
_part = cast("msgspec.json.Decoder[dict[str, Raw]]", msgspec.json.Decoder(Part))
_text = msgspec.json.Decoder(str)


def parse_page(body: bytes) -> dict[str, object]:
    """An answer of listRecords, as `json` would give it but for parts that are left out.

    A part that is neither an object, nor a text, nor null is False. Raises ValueError for what is
    no page.
    """
    try:
        with _turn:
            return _read(body)
    except RecursionError as error:
        raise ValueError("the JSON nests too deeply") from error


def _read(body: bytes) -> dict[str, object]:
    page = _page.decode(body)
    if len(page.records) > MAX_RECORDS:
        raise ValueError(f"the page has more than {MAX_RECORDS} records")
    records = [
        {"uri": entry.uri, "cid": _pick(entry.cid, 0), "value": _pick(entry.value, LEVELS)}
        for entry in page.records
    ]
    return {"records": records, "cursor": _pick(page.cursor, 0)}


def _pick(raw: Raw, levels: int) -> object:
    first = bytes(memoryview(raw)[:1])
    if first == b'"':
        return _text.decode(raw)
    if first == b"{" and levels > 0:
        return {name: _pick(part, levels - 1) for name, part in _part.decode(raw).items()}
    return None if first == b"n" else False
