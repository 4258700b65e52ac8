"""From when to when to look for the row of a record: see records.py. Pure.

Times are milliseconds since 1970; the key of a record is a time as well, if it is a TID.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence

from server.core.projection import KEY_TIE_BITS

# Another value needs a migration that makes the index of what stands apart anew.
NEAR_MS = 30_000
# Whoever is within NEAR_MS of one time is within SPAN_MS of each other; a second for equals, which
# may stand a little further on than their time.
SPAN_MS = 2 * NEAR_MS + 1_000
MOST_ID = 2**63 - 1


def ranges_around(
    wanted: Mapping[tuple[int, int, int], Sequence[int]], passed_over: Container[int]
) -> list[tuple[int, int, int]]:
    """Author, first and last id where rows of these records can stand, if near their keys.

    And around the times that come with them, as far as rows can belong to one crowd. In ranges that
    do not touch. `passed_over`: authors.
    """
    spans: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for (author_id, rkey, _), places in wanted.items():
        if author_id not in passed_over:
            theirs = spans[author_id]
            theirs += [(ms - SPAN_MS, ms + SPAN_MS) for ms in places]
            if rkey >= 0:
                ms = _tid_ms(rkey)
                theirs.append((ms - NEAR_MS, ms + NEAR_MS))
    return [
        (author_id, *ids_between(*span))
        for author_id, theirs in spans.items()
        for span in (_merged(theirs) if theirs else ())
    ]


def ids_of_keys(low: int, high: int) -> tuple[int, int]:
    """The first and the last id at which rows can stand that are near keys from `low` to `high`."""
    return ids_between(_tid_ms(low) - NEAR_MS, _tid_ms(high) + NEAR_MS)


def ids_between(first_ms: int, last_ms: int) -> tuple[int, int]:
    """The first and the last id that a row from one time to another can have."""
    first, last = max(first_ms, 0) << KEY_TIE_BITS, (last_ms + 1 << KEY_TIE_BITS) - 1
    return min(first, MOST_ID), min(last, MOST_ID)


def _tid_ms(rkey: int) -> int:
    return (rkey >> 10) // 1000


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same times in spans that do not touch, in order."""
    spans.sort()
    first, last = spans[0]
    for begin, end in spans[1:]:
        if begin > last:
            yield first, last
            first = begin
        last = max(last, end) if begin <= last else end
    yield first, last
