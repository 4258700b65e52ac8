"""The statements that find a page of a feed, written out once for each feed and direction.

Three ways lead to the same items.

- `near`: the n newest items can only come from the n authors whose newest items are newest (their
  heads), and none of them is older than the n-th head. So a look at each author, then the items of
  the few authors that are left, down to there; and of those each with a verdict whether the feed
  shows it. On a first page the head is what `repos` names, and further down one probe of an index.
  What it costs grows with the number of authors, and with nothing else. (Where a feed shows only
  pictures, items are those with pictures, which have an index of their own.)
- `heads`: the same among the items that the feed shows, and no others. It finds what is rare where
  `near` would have to be asked many times, and passes over everything else on the way.
- `window`: the newest items of everybody, so many of them, and of those what the feed shows. It is
  better for whoever follows much of what is written, and finds nothing for whoever follows few or
  silent people.

Each is one statement, so it sees one moment. Parameters: `:viewer`; `:beyond`, the key from which
on items are looked for; `:wanted`, how many; `:quiet` as in filters.py; `:window`, how many items
of everybody. Rows have COLUMNS and one more: of `near`, the verdict; of `window`, where it ends.
"""

from dataclasses import dataclass
from functools import cache

from server.core.feed import TimelineFilter
from server.storage.database import is_sqlite
from server.storage.filters import (
    EVERY_ITEM,
    author_sql,
    authors_sql,
    items_sql,
    kind_sql,
    repo_sql,
)
from server.storage.newest import MEDIA_POST

COLUMNS = ("id", "author_id", "rkey", "flags", "subject_id", "subject_rkey")
# Pictures and video are one item in seven.
ITEMS_A_PICTURE = 7
# Nearly half of what people show are reposts.
ITEMS_A_POST = 2
# Lower and higher than any key.
LOWEST, HIGHEST = -1, 2**63 - 1

# What a repo `r` names as its newest, by the condition on items.
_NEWEST = {EVERY_ITEM: "r.newest_id", MEDIA_POST: "r.newest_media_id"}

# Whether the items of an account's repo are shown. As a value, and not EXISTS, so that PostgreSQL
# does not read all such accounts to answer it; and only of whoever is followed, as most are not.
_IS_SHOWN = (
    "CASE WHEN {is_followed}"
    " THEN (SELECT CASE WHEN {is_shown} THEN 1 ELSE 0 END FROM repos r"
    " WHERE r.author_id = i.author_id) ELSE 0 END = 1"
)


@dataclass(frozen=True, slots=True)
class PageSql:
    """The three statements of a feed; `is_whole`: it shows all that `near` finds.

    `one_in`: about so many items have one among them that `near` would find. `found_for_one`: about
    so many that it finds have one among them that is shown, if no more is left out than replies.
    """

    near: str
    heads: str
    window: str
    is_whole: bool
    one_in: int
    found_for_one: int


@dataclass(frozen=True, slots=True)
class _Way:
    """In which direction a feed is read, in SQL's words: `beyond` a place, and from there on.

    `has_any`: of an author `r` in repos, whether there can be anything that way, as its `newest`
    says.
    """

    beyond: str
    back: str
    onward: str
    furthest: str
    end: int
    has_any: str


_NEWEST_FIRST = _Way("<", ">", "DESC", "min", LOWEST, "{newest} >= 0")
_OLDEST_FIRST = _Way(">", "<", "ASC", "max", HIGHEST, "{newest} > :beyond")


def page_sql(shown: TimelineFilter, oldest_first: bool) -> PageSql:
    """The statements of a feed, for the database that is open."""
    return _page_sql(shown, oldest_first, is_sqlite())


@cache
def _page_sql(shown: TimelineFilter, oldest_first: bool, for_sqlite: bool) -> PageSql:
    way = _OLDEST_FIRST if oldest_first else _NEWEST_FIRST
    condition = items_sql(shown)
    repos_of = f"{_repos_of(authors_sql(shown), for_sqlite)} AND {repo_sql(shown)}"
    return PageSql(
        near=_merged(repos_of, way, kind_sql(shown), f", CASE WHEN {condition} THEN 1 ELSE 0 END"),
        heads=_merged(repos_of, way, condition, ""),
        window=_window(shown, way),
        is_whole=condition == kind_sql(shown),
        one_in=ITEMS_A_PICTURE if shown.media_only else 1,
        found_for_one=1 if shown.reposts or shown.media_only else ITEMS_A_POST,
    )


def _columns(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in COLUMNS)


def _repos_of(authors: str, for_sqlite: bool) -> str:
    """FROM, and the beginning of WHERE: the repos of these accounts, called r.

    PostgreSQL walks through its index once for all of a list, and would begin at the root for each
    of a join: 40 ms instead of 90 for 50,000 accounts.
    """
    if for_sqlite:
        return f"FROM ({authors}) f CROSS JOIN repos r WHERE r.author_id = f.subject_id"
    return f"FROM repos r WHERE r.author_id = ANY (ARRAY({authors}))"


def _merged(repos_of: str, way: _Way, condition: str, verdict: str) -> str:
    """As many items as are wanted, of those for which a condition on `i` holds.

    h: the nearest heads, and their authors. l: no item further away is on the page. b: the part of
    each author's items that may be on it, which is not everything that a bot wrote since. n: the
    items of the page. Up to here only indexes are read, where there is no condition.
    """
    onward = f"ORDER BY i.id {way.onward} LIMIT"
    between = f"i.author_id = h.author AND i.id {way.beyond}= h.head AND i.id {way.back}="
    head = (
        f"coalesce((SELECT i.id FROM feed_items i WHERE i.author_id = r.author_id"
        f" AND i.id {way.beyond} :beyond AND {condition} {onward} 1), {way.end})"
    )
    named = _NEWEST.get(condition)
    if named is not None and way is _NEWEST_FIRST:
        head = f"CASE WHEN {named} < :beyond THEN {named} ELSE {head} END"
    has_any = way.has_any.format(newest=named or "r.newest_id")
    return (
        f"WITH h AS MATERIALIZED (SELECT r.author_id AS author, {head} AS head"
        f" {repos_of} AND {has_any}"
        f" ORDER BY head {way.onward} LIMIT :wanted),"
        f" l AS MATERIALIZED (SELECT CASE WHEN count(*) < :wanted THEN {way.end}"
        f" ELSE {way.furthest}(head) END AS last FROM h),"
        " b AS MATERIALIZED (SELECT h.author, h.head, coalesce((SELECT i.id FROM feed_items i"
        f" WHERE {between} l.last AND {condition} {onward} 1 OFFSET :wanted - 1), l.last) AS last"
        " FROM h CROSS JOIN l),"
        " n AS MATERIALIZED (SELECT i.id FROM b h CROSS JOIN feed_items i"
        f" WHERE {between} h.last AND {condition} {onward} :wanted)"
        f" SELECT {_columns('i')}{verdict} FROM n CROSS JOIN feed_items i WHERE i.id = n.id"
        f" ORDER BY i.id {way.onward}"
    )


def _window(shown: TimelineFilter, way: _Way) -> str:
    of_them = _IS_SHOWN.format(
        is_followed=author_sql(shown, "i.author_id"), is_shown=repo_sql(shown)
    )
    return (
        "WITH w AS MATERIALIZED (SELECT coalesce((SELECT i.id FROM feed_items i"
        f" WHERE i.id {way.beyond} :beyond ORDER BY i.id {way.onward} LIMIT 1 OFFSET :window),"
        f" {way.end}) AS place) SELECT {_columns('i')}, (SELECT place FROM w) FROM feed_items i"
        f" WHERE i.id {way.beyond} :beyond AND i.id {way.back}= (SELECT place FROM w)"
        f" AND {of_them} AND {items_sql(shown)} ORDER BY i.id {way.onward} LIMIT :wanted"
    )
