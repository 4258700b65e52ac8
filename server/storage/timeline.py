"""The one query of all feeds: the items of those whom a viewer follows, and their own, in order.

How it finds them without reading everybody's items: the n newest items can only come from the n
authors whose newest items are newest (their heads), and none of them is older than the n-th head.
So one probe of an index an author, then a merge of the few authors that are left. Feeds that are
read from the bottom do the same the other way round. What a feed shows is `filters.py`'s part.

Promises. A page is a prefix of one total order beyond its cursor, at most `limit` long, and never
empty before the end. `has_more` is exact at the time of reading: one item more is looked for.
Authors who are inactive show nothing. SQL is written out here, and not put together by the ORM:
it is the hottest path of the house, and what runs is what is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from server.core.feed import QUIET_DAYS, TimelineFilter, TimelineItem
from server.core.projection import sort_key
from server.core.syntax import POST, REPOST
from server.storage.database import is_sqlite, rows, rows_in
from server.storage.filters import authors_sql, items_sql
from server.storage.rkeys import decode_rkeys

NEWEST = 2**63 - 1
DAY_US = 86_400_000_000
# How often a page is looked for that deletions come in between of.
MAX_TRIES = 3


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Items in the feed's order, and whether there are more beyond the last one."""

    items: list[TimelineItem]
    has_more: bool


@dataclass(frozen=True, slots=True)
class _Order:
    """Which way a feed is read, in SQL's words: `beyond` a place, and from there `onward`."""

    beyond: str
    onward: str
    sign: int


_NEWEST_FIRST, _OLDEST_FIRST = _Order("<", "DESC", -1), _Order(">", "ASC", 1)


def timeline_page(
    viewer_id: int,
    shown: TimelineFilter,
    beyond: int | None,
    limit: int,
    now_us: int,
    *,
    oldest_first: bool = False,
) -> TimelinePage:
    """One page of a viewer's feed: items whose sort key is below `beyond` (None: from the top).

    With `oldest_first` the other way round: above `beyond` (None: from the bottom), upwards.
    """
    order = _OLDEST_FIRST if oldest_first else _NEWEST_FIRST
    if beyond is None:
        beyond = -1 if oldest_first else NEWEST
    values = {
        "viewer": viewer_id,
        "beyond": beyond,
        "wanted": limit + 1,
        "quiet": sort_key(max(0, now_us - QUIET_DAYS * DAY_US) // 1000, 0),
    }
    found = _Query(shown, order, values).items()
    return TimelinePage(_dress(found[:limit]), has_more=len(found) > limit)


class _Query:
    """The search for one page: heads of all authors first, then a merge of the nearest of them.

    A head is the author's first item on the page's way; no item beyond as many heads as are wanted
    can be on the page.
    """

    def __init__(self, shown: TimelineFilter, order: _Order, values: dict[str, int]) -> None:
        self.authors = authors_sql(shown)
        self.condition = items_sql(shown)
        self.order = order
        self.values = values

    def items(self) -> list[tuple[Any, ...]]:
        """As many items as are wanted, fewer only at the end."""
        found: list[tuple[Any, ...]] = []
        for _ in range(MAX_TRIES):
            heads = self._heads()
            is_enough = len(heads) == self.values["wanted"]
            last = 0 if self.order is _NEWEST_FIRST else NEWEST
            self.values["last"] = heads[-1][1] if is_enough else last
            found = self._merge_here(heads) if is_sqlite() else self._merge_there(heads)
            # Heads that were deleted since would make this look like the feed's end.
            if not is_enough or len(found) == self.values["wanted"]:
                break
        return found

    def _heads(self) -> list[tuple[int, int]]:
        """Authors and their heads, the nearest first."""
        beyond, onward = self.order.beyond, self.order.onward
        sql, parameters = _named(
            "WITH h AS MATERIALIZED (SELECT f.subject_id AS author, (SELECT i.id FROM feed_items i"
            f" WHERE i.author_id = f.subject_id AND i.id {beyond} :beyond AND {self.condition}"
            f" ORDER BY i.id {onward} LIMIT 1) AS head FROM ({self.authors}) f"
            " JOIN repos r ON r.author_id = f.subject_id AND r.is_active = 1)"
            " SELECT author, head FROM h WHERE head IS NOT NULL"
            f" ORDER BY head {onward} LIMIT :wanted",
            self.values,
        )
        return [(row[0], row[1]) for row in rows(sql, parameters)]

    def _merge_here(self, heads: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
        """SQLite: a statement an author, which costs microseconds, and a merge in this process."""
        streams = [
            rows(*_named(self._items_sql(":author", ":head"), self._with(author, head)))
            for author, head in heads
        ]
        in_order = merge(*streams, key=lambda row: self.order.sign * int(row[0]))
        return list(islice(in_order, self.values["wanted"]))

    def _merge_there(self, heads: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
        """PostgreSQL: one statement, because each is a trip to the server."""
        if not heads:
            return []
        # Both numbers come from the database: no text of anybody's gets into the statement.
        listed = ", ".join(f"({int(author)}, {int(head)}::bigint)" for author, head in heads)
        sql, parameters = _named(
            "SELECT x.* FROM @heads@"
            f" CROSS JOIN LATERAL ({self._items_sql('h.author', 'h.head')}) x"
            f" ORDER BY x.id {self.order.onward} LIMIT :wanted",
            self.values,
        )
        return rows(sql.replace("@heads@", f"(VALUES {listed}) h(author, head)"), parameters)

    def _items_sql(self, author: str, head: str) -> str:
        low, high = (head, ":last") if self.order is _OLDEST_FIRST else (":last", head)
        return (
            "SELECT i.id, i.author_id, i.rkey, i.collection, i.subject_id, i.subject_rkey"
            f" FROM feed_items i WHERE i.author_id = {author} AND i.id >= {low} AND i.id <= {high}"
            f" AND {self.condition} ORDER BY i.id {self.order.onward} LIMIT :wanted"
        )

    def _with(self, author: int, head: int) -> dict[str, int]:
        return {**self.values, "author": author, "head": head}


def _named(sql: str, values: dict[str, int]) -> tuple[str, list[int]]:
    """`:name` parameters as `?` ones, in the order of the text."""
    parameters: list[int] = []
    parts = sql.split(":")
    for index, part in enumerate(parts[1:], start=1):
        name = ""
        for letter in part:
            if not letter.isalpha():
                break
            name += letter
        parameters.append(values[name])
        parts[index] = "?" + part[len(name) :]
    return "".join(parts), parameters


def _dress(found: Sequence[tuple[Any, ...]]) -> list[TimelineItem]:
    """Rows as the URIs that the skeleton names."""
    numbers = {row[1] for row in found} | {row[4] for row in found if row[3] == 1}
    dids = dict(rows_in("SELECT id, did FROM authors WHERE id", numbers))
    keys = decode_rkeys({row[2] for row in found} | {row[5] for row in found if row[3] == 1})
    items = []
    for key, author, rkey, collection, subject, subject_rkey in found:
        if collection == 0:
            items.append(TimelineItem(key, f"at://{dids[author]}/{POST}/{keys[rkey]}", None))
        else:
            post_uri = f"at://{dids[subject]}/{POST}/{keys[subject_rkey]}"
            repost_uri = f"at://{dids[author]}/{REPOST}/{keys[rkey]}"
            items.append(TimelineItem(key, post_uri, repost_uri))
    return items
