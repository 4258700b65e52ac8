"""DAG-CBOR and CIDs as the AT Protocol uses them. Encodes only: readers have libipld.

libipld's encoder writes any `bytes` that happen to parse as a CID as a link, and now and then
a signature does. Here a link is a `Cid` and nothing else is.
"""

import base64
import hashlib
import struct
from typing import Any

DAG_CBOR, RAW = 0x71, 0x55
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
# Tag 42, then a byte string of 37 bytes whose first is the multibase identity prefix.
_LINK = b"\xd8\x2a\x58\x25\x00"
_CONSTANTS = {None: b"\xf6", True: b"\xf5", False: b"\xf4"}


class Cid(bytes):
    """A CIDv1 with a SHA-256 multihash, in its 36 byte form."""

    __slots__ = ()

    @classmethod
    def of(cls, block: bytes, codec: int = DAG_CBOR) -> "Cid":
        """The CID of these bytes."""
        return cls(bytes((1, codec, 0x12, 0x20)) + hashlib.sha256(block).digest())

    @classmethod
    def parse(cls, text: str) -> "Cid":
        """Read the text form; raises ValueError for anything but base32."""
        if not text.startswith("b"):
            raise ValueError(f"not a base32 CID: {text!r}")
        return cls(base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8)))

    @property
    def text(self) -> str:
        """The form that stands in URIs and JSON."""
        return "b" + base64.b32encode(self).decode().rstrip("=").lower()

    def __repr__(self) -> str:
        return f"Cid({self.text})"


def head(major: int, number: int) -> bytes:
    """The first bytes of a CBOR item: its kind and its length or value."""
    kind = major << 5
    if number < 24:
        return bytes((kind | number,))
    for width, (code, limit) in enumerate(((">B", 1 << 8), (">H", 1 << 16), (">I", 1 << 32))):
        if number < limit:
            return bytes((kind | 24 + width,)) + struct.pack(code, number)
    return bytes((kind | 27,)) + struct.pack(">Q", number)


def link(cid: Cid) -> bytes:
    """A CID as a CBOR item."""
    return _LINK + cid


def encode(value: Any) -> bytes:
    """Canonical bytes of a value made of dict, list, str, bytes, Cid, int, float, bool, None."""
    parts: list[bytes] = []
    _write(value, parts.append)
    return b"".join(parts)


def from_json(value: Any) -> Any:
    """Turn `{"$link": …}` and `{"$bytes": …}` of the JSON form into Cid and bytes."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$link"}:
        return Cid.parse(value["$link"])
    if value.keys() == {"$bytes"}:
        text = value["$bytes"]
        return base64.b64decode(text + "=" * (-len(text) % 4))
    return {key: from_json(item) for key, item in value.items()}


def _write(value: Any, out: Any) -> None:
    match value:
        case None | bool():
            out(_CONSTANTS[value])
        case str():
            text = value.encode()
            out(head(_TEXT, len(text)) + text)
        case Cid():
            out(_LINK + value)
        case bytes():
            out(head(_BYTES, len(value)))
            out(value)
        case int():
            out(head(_UNSIGNED, value) if value >= 0 else head(_NEGATIVE, -1 - value))
        case float():
            out(b"\xfb" + struct.pack(">d", value))
        case _:
            _write_container(value, out)


def _write_container(value: Any, out: Any) -> None:
    if isinstance(value, list | tuple):
        out(head(_ARRAY, len(value)))
        for item in value:
            _write(item, out)
    elif isinstance(value, dict):
        out(head(_MAP, len(value)))
        # Shorter keys first, then byte order: the canonical order of DAG-CBOR.
        for key in sorted(value, key=lambda name: (len(name.encode()), name.encode())):
            _write(key, out)
            _write(value[key], out)
    else:
        raise TypeError(f"DAG-CBOR has no {type(value).__name__}")
