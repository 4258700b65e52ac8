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
    """Author, first and last id around the times of these records, in ranges that do not touch.

    These are those of their keys, and those that come with them. `passed_over`: authors.
    """
    return [
        (author_id, *ids_between(*span))
        for author_id, spans in _spans(wanted).items()
        if author_id not in passed_over
        for span in (spans if len(spans) == 1 else _merged(spans))
    ]


def ids_of_keys(low: int, high: int) -> tuple[int, int]:
    """The first and the last id at which rows can stand that are near keys from `low` to `high`."""
    return ids_between(_tid_ms(low) - NEAR_MS, _tid_ms(high) + NEAR_MS)


def ids_between(first_ms: int, last_ms: int) -> tuple[int, int]:
    """The first and the last id that a row from one time to another can have."""
    first, last = max(first_ms, 0) << KEY_TIE_BITS, (last_ms + 1 << KEY_TIE_BITS) - 1
    return min(first, MOST_ID), min(last, MOST_ID)


def _spans(
    wanted: Mapping[tuple[int, int, int], Sequence[int]],
) -> Mapping[int, list[tuple[int, int]]]:
    spans: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for (author_id, rkey, _), places in wanted.items():
        times = (_tid_ms(rkey), *places) if rkey >= 0 else places
        if not times:
            continue
        first, last = min(times), max(times)
        if last - first <= SPAN_MS:
            # Mostly, and all of it is one moment.
            spans[author_id].append((first - SPAN_MS, last + SPAN_MS))
        else:
            spans[author_id] += [(ms - SPAN_MS, ms + SPAN_MS) for ms in times]
    return spans


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
