"""Reads CBOR that a strict decoder refuses, as far as it can be told what is where. Pure.

Relays pass on what any PDS writes into a handle, a time or a link. Texts that are no UTF-8, links
that name nothing known and keys in any order leave no doubt whose event it is, and what one account
writes must not be a hole of everybody. A key that stands twice does, and is refused.

Bounds: MAX_ITEMS (or what the caller says), MAX_DEPTH, and what the data itself is long.
"""

from typing import Any

# A commit of 200 ops, the most that are allowed, has some 2,000. Relays in Go read lists of 8,192.
MAX_ITEMS = 120_000
MAX_DEPTH = 16
_SIMPLE = {20: False, 21: True}


def read_loosely(data: bytes, max_items: int = MAX_ITEMS) -> Any:
    """The one object that this is. Raises ValueError if nobody can tell.

    What is no UTF-8 in a text is replaced; a link is its bytes, and a fraction None.
    """
    reader = _Reader(data, max_items)
    found = reader.item(MAX_DEPTH)
    if reader.position != len(data):
        raise ValueError("more than one object")
    return found


class _Reader:
    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.position = 0
        self.items_left = max_items

    def item(self, depth: int) -> Any:
        self.items_left -= 1
        if depth == 0 or self.items_left < 0:
            raise ValueError("too deep, or too much")
        kind, low, number = self._head()
        if kind in (2, 3):
            found = self._take(number)
            return found if kind == 2 else found.decode("utf-8", "replace")
        if kind == 4:
            return [self.item(depth - 1) for _ in range(number)]
        if kind == 5:
            return self._map(number, depth - 1)
        if kind == 6:
            tagged = self.item(depth - 1)
            return tagged[1:] if number == 42 and isinstance(tagged, bytes) else tagged
        if kind == 7:
            return _SIMPLE.get(low)
        return number if kind == 0 else -1 - number

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.item(depth)
            if not isinstance(key, str) or key in found:
                raise ValueError("a key that is no text, or stands twice")
            found[key] = self.item(depth)
        return found

    def _head(self) -> tuple[int, int, int]:
        """The kind of the next item, the rest of its first byte, and the number that follows."""
        first = self._take(1)[0]
        kind, low = first >> 5, first & 31
        if low > 27:
            raise ValueError("an item without a length")
        return kind, low, low if low < 24 else int.from_bytes(self._take(1 << low - 24))

    def _take(self, count: int) -> bytes:
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError("the end is missing")
        self.position += count
        return taken
