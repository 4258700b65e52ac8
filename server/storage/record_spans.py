"""From when to when to look for the row of a record: see records.py. Pure.

Times are milliseconds since 1970; the key of a record is a time as well, if it is a TID.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

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
    spans: list[tuple[int, int, int]] = []
    for (author_id, rkey, _), places in wanted.items():
        if author_id in passed_over:
            continue
        spans += [(author_id, ms - SPAN_MS, ms + SPAN_MS) for ms in places]
        if rkey >= 0:
            ms = _tid_ms(rkey)
            # Mostly all of it is one moment, and in a span already.
            if not places or abs(ms - places[0]) > SPAN_MS - NEAR_MS:
                spans.append((author_id, ms - NEAR_MS, ms + NEAR_MS))
    spans.sort()
    return [(author_id, *ids_between(first, last)) for author_id, first, last in _merged(spans)]


def ids_of_keys(low: int, high: int) -> tuple[int, int]:
    """The first and the last id at which rows can stand that are near keys from `low` to `high`."""
    return ids_between(_tid_ms(low) - NEAR_MS, _tid_ms(high) + NEAR_MS)


def ids_between(first_ms: int, last_ms: int) -> tuple[int, int]:
    """The first and the last id that a row from one time to another can have."""
    first = first_ms << KEY_TIE_BITS if first_ms > 0 else 0
    last = (last_ms + 1 << KEY_TIE_BITS) - 1
    return (first, last) if last <= MOST_ID else (min(first, MOST_ID), MOST_ID)


def _tid_ms(rkey: int) -> int:
    return (rkey >> 10) // 1000


def _merged(spans: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """The same times in spans that do not touch; they come, and go, in order."""
    who, first, last = -1, 0, -1
    for author_id, begin, end in spans:
        if author_id == who and begin <= last:
            if end > last:
                last = end
            continue
        if who >= 0:
            yield who, first, last
        who, first, last = author_id, begin, end
    if who >= 0:
        yield who, first, last
