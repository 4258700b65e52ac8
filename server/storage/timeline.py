"""The one query of all feeds: the items of those whom a viewer follows, and their own, in order.

Promises. A page is a prefix of one total order beyond its cursor, at most `limit` long, and never
empty before the end. `has_more` is exact at the time of reading: one item more is looked for.
Authors who are inactive show nothing.

Which of the ways of page_sql.py is taken depends on how many people a viewer follows, and on how
much of what is found is shown. Whoever follows many gets a small window first, and further ones if
what the last held lets expect that the page is in them. Then what is near, a few times at most; and
where that does not hold enough of what the feed shows, the way that surely ends. Each statement
goes on where the last one ended: what comes or goes meanwhile does so before or after the page is
read. What a feed shows is `filters.py`'s part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.core.feed import QUIET_DAYS, TimelineFilter, TimelineItem
from server.core.projection import sort_key
from server.core.syntax import POST, REPOST
from server.storage.authors import dids_of
from server.storage.database import is_sqlite
from server.storage.follow_counts import follow_count
from server.storage.page_sql import HIGHEST, LOWEST, PageSql, page_sql
from server.storage.prepared import prepared_rows
from server.storage.records import is_repost
from server.storage.rkeys import decode_rkeys

DAY_US = 86_400_000_000
# With fewer follows than this their heads are cheap, and little of what is written is theirs.
MANY_FOLLOWS = 1_000
# The first window has a row for so many follows.
FOLLOWS_A_ROW = 8
# What is looked at is what should be enough, and some more, and a few more: rows are cheap, and
# another look is not. With many follows, a look costs as much as a thousand rows.
MARGIN, MARGIN_OF_MANY, A_FEW = 1.3, 2.5, 8
# Windows, and looks at what is near, before the way that surely ends. That one takes ten times as
# long as a look, where thousands are followed.
MAX_WINDOWS, MAX_LOOKS = 4, 3
# On later pages nothing names an author's next item: a look has to find each in the index, and
# costs as much as windows of so many times as many rows as there are authors.
DEEP, DEEP_IN_SQLITE = 3.0, 1.5
# Items that are looked at one by one; where that many are not enough, few are shown.
MOST_NEAR = 2_000


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Items in the feed's order, and whether there are more beyond the last one."""

    items: list[TimelineItem]
    has_more: bool


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
    if beyond is None:
        beyond = LOWEST if oldest_first else HIGHEST
    values = {
        "viewer": viewer_id,
        "beyond": beyond,
        "wanted": limit + 1,
        "quiet": sort_key(max(0, now_us - QUIET_DAYS * DAY_US) // 1000, 0),
    }
    search = _Search(page_sql(shown, oldest_first), values)
    found = search.run(follow_count(viewer_id))
    return TimelinePage(dress(found[:limit]), has_more=len(found) > limit)


class _Search:
    """The items found so far, and where to go on."""

    def __init__(self, sql: PageSql, values: dict[str, int]) -> None:
        self.sql = sql
        self.values = values
        self.wanted = values["wanted"]
        self.found: list[tuple[Any, ...]] = []
        self.is_done = False

    def run(self, follows: int) -> list[tuple[Any, ...]]:
        """As many items as are wanted, fewer only at the end; `follows`: about how many."""
        are_many = follows >= MANY_FOLLOWS * self.sql.one_in
        window = follows // FOLLOWS_A_ROW if are_many else 0
        rows_left = follows * self._rows_a_follow()
        for _ in range(MAX_WINDOWS):
            if 0 < window < rows_left and not self.is_done:
                rows_left -= window
                window = self._look_in_window(window)
        margin = MARGIN if follows < MANY_FOLLOWS else MARGIN_OF_MANY
        margin *= self.sql.found_for_one
        count = self._missing() if self.sql.is_whole else int(self._missing() * margin) + A_FEW
        for _ in range(MAX_LOOKS):
            if 0 < count <= MOST_NEAR and not self.is_done:
                count = self._look_near(count)
        if not self.is_done:
            self.found += prepared_rows(self.sql.heads, self._for(self._missing()))
        return self.found

    def _rows_a_follow(self) -> float:
        """So many rows in windows, for each account, cost what a look does."""
        if self.values["beyond"] in (LOWEST, HIGHEST):
            return 1.0
        return DEEP_IN_SQLITE if is_sqlite() else DEEP

    def _missing(self) -> int:
        return self.wanted - len(self.found)

    def _for(self, wanted: int) -> dict[str, int]:
        return {**self.values, "wanted": wanted}

    def _look_in_window(self, window: int) -> int:
        """How long the next window should be; 0 where nothing tells."""
        part = prepared_rows(self.sql.window, {**self._for(self._missing()), "window": window})
        self.found += part
        self.is_done = not self._missing()
        if not part:
            # Nothing of theirs is in it, so its end was not told either.
            return 0
        self.values["beyond"] = part[0][-1]
        return int((self._missing() * MARGIN + A_FEW) * window / len(part))

    def _look_near(self, count: int) -> int:
        """How many items to look at next; 0 where nothing tells."""
        seen = prepared_rows(self.sql.near, self._for(count))
        shown = [row for row in seen if row[-1]]
        self.found += shown[: self._missing()]
        self.is_done = len(seen) < count or not self._missing()
        if seen:
            self.values["beyond"] = seen[-1][0]
        return int(self._missing() * count / len(shown) * MARGIN) + A_FEW if shown else 0


def dress(found: Sequence[tuple[Any, ...]]) -> list[TimelineItem]:
    """Rows that begin with COLUMNS as the URIs that the skeleton names."""
    reposts = [row for row in found if is_repost(row[3])]
    dids = dids_of([row[1] for row in found] + [row[4] for row in reposts])
    keys = decode_rkeys([row[2] for row in found] + [row[5] for row in reposts])
    items = []
    for key, author, rkey, flags, subject, subject_rkey, *_ in found:
        if not is_repost(flags):
            items.append(TimelineItem(key, f"at://{dids[author]}/{POST}/{keys[rkey]}", None))
        else:
            post_uri = f"at://{dids[subject]}/{POST}/{keys[subject_rkey]}"
            repost_uri = f"at://{dids[author]}/{REPOST}/{keys[rkey]}"
            items.append(TimelineItem(key, post_uri, repost_uri))
    return items
