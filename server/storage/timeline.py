"""The one query of all feeds: the newest items of everybody whom a viewer follows, and their own.

How it finds them without reading everybody's items: the n newest items can only come from the n
authors whose newest items are newest (their heads), and none of them is older than the n-th head.
So one probe of an index an author, then a merge of the few authors that are left.

Promises. A page is a prefix of one total order below its cursor, at most `limit` long, and never
empty before the end. `has_more` is exact at the time of reading: one item more is looked for.
Authors who are inactive show nothing. SQL is written out here, and not put together by the ORM:
it is the hottest path of the house, and what runs is what is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from server.core.feed import TimelineFilter, TimelineItem
from server.core.projection import REPLY
from server.core.syntax import POST, REPOST
from server.storage import outside_posts, repos
from server.storage.database import is_sqlite, rows, rows_in
from server.storage.rkeys import decode_rkeys

NEWEST = 2**63 - 1

# The viewer, and each account followed, once however many follow records name it.
_FOLLOWED = "SELECT subject_id FROM follows WHERE viewer_id = :viewer UNION SELECT :viewer"

_IS_FOLLOWED = (
    "({account} = :viewer OR EXISTS (SELECT 1 FROM follows w"
    " WHERE w.viewer_id = :viewer AND w.subject_id = {account}))"
)

_HAS_ROW = (
    "EXISTS (SELECT 1 FROM feed_items p"
    " WHERE p.author_id = {account} AND p.rkey = {rkey} AND p.collection = 0)"
)

# A post that a reply hangs on is gone, as far as we can know: its author is hidden; or we have no
# such post, and either its author is complete with us down to its key, or their PDS has none.
_IS_GONE = (
    "(EXISTS (SELECT 1 FROM repos g WHERE g.author_id = {account} AND g.is_active = 0)"
    f" OR (NOT {_HAS_ROW} AND"
    " (EXISTS (SELECT 1 FROM repos g WHERE g.author_id = {account}"
    f" AND g.state = {repos.LIVE}"
    " AND {rkey} > g.horizon_rkey)"
    " OR EXISTS (SELECT 1 FROM outside_posts o WHERE o.author_id = {account}"
    f" AND o.rkey = {{rkey}} AND o.state = {outside_posts.MISSING}))))"
)

# Whom the parent of a reply replies to, where we know the parent.
_GRANDPARENT = (
    "coalesce((SELECT p.subject_id FROM feed_items p"
    " WHERE p.author_id = i.subject_id AND p.rkey = i.subject_rkey AND p.collection = 0),"
    " (SELECT o.parent_id FROM outside_posts o"
    " WHERE o.author_id = i.subject_id AND o.rkey = i.subject_rkey))"
)

# The official app's rule for replies in Following: nothing that hangs on a missing post; threads
# with oneself; and replies where somebody else in it, parent, grandparent or root, is followed or
# is the viewer.
_FOLLOWING_REPLY = f"""(i.subject_id IS NOT NULL
    AND NOT {_IS_GONE.format(account="i.subject_id", rkey="i.subject_rkey")}
    AND (i.root_id IS NULL OR NOT {_IS_GONE.format(account="i.root_id", rkey="i.root_rkey")})
    AND CASE WHEN i.subject_id <> i.author_id
           AND {_IS_FOLLOWED.format(account="i.subject_id")} THEN 1
         WHEN i.root_id <> i.author_id AND {_IS_FOLLOWED.format(account="i.root_id")} THEN 1
         WHEN i.subject_id = i.author_id AND coalesce(i.root_id, i.author_id) = i.author_id
           AND coalesce({_GRANDPARENT}, i.author_id) = i.author_id THEN 1
         WHEN {_GRANDPARENT} <> i.author_id
           AND {_IS_FOLLOWED.format(account=_GRANDPARENT)} THEN 1
         ELSE 0 END = 1)"""


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Items, newest first, and whether there are more below the last one."""

    items: list[TimelineItem]
    has_more: bool


def timeline_page(
    viewer_id: int, shown: TimelineFilter, below: int | None, limit: int
) -> TimelinePage:
    """One page of a viewer's feed: items whose sort key is below `below` (None: from the top)."""
    wanted = limit + 1
    query = _Query(viewer_id, _condition(shown), NEWEST if below is None else below, wanted)
    found = query.items()
    return TimelinePage(_dress(found[:limit]), has_more=len(found) > limit)


def _condition(shown: TimelineFilter) -> str:
    conditions = ["1 = 1"]
    if not shown.reposts:
        conditions.append("i.collection = 0")
    is_no_reply = f"(i.collection = 1 OR i.flags & {REPLY} = 0"
    if shown.replies == "none":
        conditions.append(f"{is_no_reply})")
    elif shown.replies == "following":
        conditions.append(f"{is_no_reply} OR {_FOLLOWING_REPLY})")
    return " AND ".join(conditions)


class _Query:
    """The search for one page: heads of all authors first, then a merge of the newest of them."""

    def __init__(self, viewer_id: int, condition: str, below: int, wanted: int) -> None:
        self.condition = condition
        self.values = {"viewer": viewer_id, "below": below, "wanted": wanted}

    def items(self) -> list[tuple[Any, ...]]:
        heads = self._heads()
        # No item below the oldest of as many heads as are wanted can be on the page.
        self.values["floor"] = heads[-1][1] if len(heads) == self.values["wanted"] else 0
        if not heads:
            return []
        return self._merge_here(heads) if is_sqlite() else self._merge_there(heads)

    def _heads(self) -> list[tuple[int, int]]:
        """The newest item of each author, of the authors with the newest ones, newest first."""
        sql, parameters = _named(
            "WITH h AS MATERIALIZED (SELECT f.subject_id AS author,"
            " (SELECT i.id FROM feed_items i WHERE i.author_id = f.subject_id AND i.id < :below"
            f" AND {self.condition} ORDER BY i.id DESC LIMIT 1) AS head FROM ({_FOLLOWED}) f"
            " JOIN repos r ON r.author_id = f.subject_id AND r.is_active = 1)"
            " SELECT author, head FROM h WHERE head IS NOT NULL ORDER BY head DESC LIMIT :wanted",
            self.values,
        )
        return [(row[0], row[1]) for row in rows(sql, parameters)]

    def _merge_here(self, heads: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
        """SQLite: a statement an author, which costs microseconds, and a merge in this process."""
        streams = [
            rows(*_named(self._items_sql(":author", ":head"), self._with(author, head)))
            for author, head in heads
        ]
        newest_first = merge(*streams, key=lambda row: -int(row[0]))
        return list(islice(newest_first, self.values["wanted"]))

    def _merge_there(self, heads: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
        """PostgreSQL: one statement, because each is a trip to the server."""
        # Both numbers come from the database: no text of anybody's gets into the statement.
        listed = ", ".join(f"({int(author)}, {int(head)}::bigint)" for author, head in heads)
        sql, parameters = _named(
            "SELECT x.* FROM @heads@"
            f" CROSS JOIN LATERAL ({self._items_sql('h.author', 'h.head')}) x"
            " ORDER BY x.id DESC LIMIT :wanted",
            self.values,
        )
        return rows(sql.replace("@heads@", f"(VALUES {listed}) h(author, head)"), parameters)

    def _items_sql(self, author: str, head: str) -> str:
        return (
            "SELECT i.id, i.author_id, i.rkey, i.collection, i.subject_id, i.subject_rkey"
            f" FROM feed_items i WHERE i.author_id = {author} AND i.id <= {head} AND i.id >= :floor"
            f" AND {self.condition} ORDER BY i.id DESC LIMIT :wanted"
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
