"""Those who ask for pages: each contender has client processes, which wait until they are told.

Ours is `timeline_page` as the service calls it, and where first pages may come out of memory,
`recent_page` before it, with the bounds that are the default. A feed that is read from the bottom
begins where its viewer stopped. The official one is what its `getTimeline` asks its database: the
newest items of those followed, by a join in the order of time, and at most ten of the viewer's own,
merged. All end with the URIs of posts and reposts.
"""

import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any

import psycopg2

from benchmarks.rig.timeline_world import END_MS, MONTH_MS, did_of
from server.core.config import DEFAULTS
from server.core.feed import Feed
from server.core.projection import sort_key
from server.storage.opening import open_database
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
from server.storage.timeline import timeline_page
from server.web import reading_place

# Post, and the repost that brought it.
Shown = tuple[str, str | None]
# What is shown, and where the next page begins, if there is one.
Found = tuple[list[Shown], int | None]
# The page of a viewer that has at most so many items, and begins beyond a place (None: the first).
Page = Callable[[int, int, int | None], Found]

NOW_US = END_MS * 1000
# Pages that one viewer turns. Every other one begins halfway from where the last one ended to the
# end of the month: the second is where people are, and the last one deep in the past.
TURNS = 8

# An item newer than all.
_ITEMS = (
    'SELECT i.uri, i."postUri", i."sortAt", i.cid FROM feed_item i {join}'
    ' WHERE {whose} = ? ORDER BY i."sortAt" DESC, i.cid DESC LIMIT ?'
)
_FOLLOWED = _ITEMS.format(
    join='JOIN follow f ON f."subjectDid" = i."originatorDid"', whose="f.creator"
)
_OWN = _ITEMS.format(join="", whose='i."originatorDid"')
_MOST_OWN = 10


@dataclass(frozen=True, slots=True)
class Contender:
    """Who answers, from which database; `feed` is ours (None: official).

    `remembers`: pages come out of memory, as in a web process, where it can tell.
    """

    name: str
    url: str
    feed: Feed | None
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """Ask for pages of these viewers, in turn, for so long; at least `least` of them.

    First pages; `is_later`: those that they turn to.
    """

    viewers: tuple[int, ...]
    limit: int
    seconds: float
    seed: int = 0
    least: int = 1
    is_later: bool = False


class Clients:
    """Client processes of one contender. Close them."""

    def __init__(self, contender: Contender, count: int) -> None:
        self.contender = contender
        context = multiprocessing.get_context("fork")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, contender), daemon=True)
            process.start()
            self._ends.append(ours)
            self._processes.append(process)

    def times_s(self, task: Task) -> list[float]:
        """How long each page took one client, while the others rest."""
        self._ends[0].send(task)
        return list(self._ends[0].recv())

    def pages_a_second(self, task: Task) -> float:
        """What all get at once; each begins with another viewer."""
        for seed, end in enumerate(self._ends):
            end.send(Task(task.viewers, task.limit, task.seconds, seed + 1))
        found: list[list[float]] = [end.recv() for end in self._ends]
        return sum(len(times) / sum(times) for times in found)

    def warm(self, viewers: tuple[int, ...], limit: int, *, all_of_them: bool) -> None:
        """Have one or all of those that remember pages answer each viewer once."""
        if self.contender.remembers:
            ends = self._ends if all_of_them else self._ends[:1]
            for end in ends:
                end.send(Task(viewers, limit, 0.0, least=len(viewers)))
            for end in ends:
                end.recv()

    def page(self, viewer: int, limit: int) -> list[Shown]:
        """One page, to be compared."""
        self._ends[0].send((viewer, limit))
        return list(self._ends[0].recv())

    def close(self) -> None:
        """End them."""
        for end in self._ends:
            # Those forked later hold copies of this end: to close it alone tells nobody.
            end.send(None)
            end.close()
        for process in self._processes:
            process.join(5)


def _serve(end: Connection, contender: Contender) -> None:
    page = _official(contender.url) if contender.feed is None else _ours(contender)
    while (asked := end.recv()) is not None:
        if isinstance(asked, Task):
            end.send(_run(page, asked))
        else:
            viewer, limit = asked
            end.send(page(viewer, limit, None)[0])


def _run(page: Page, task: Task) -> list[float]:
    viewers = list(task.viewers)
    random.Random(task.seed).shuffle(viewers)
    times: list[float] = []
    until = time.monotonic() + task.seconds
    for asked, viewer in enumerate(cycle(viewers)):
        if asked == len(viewers) and not times:
            # Nobody has more than one page.
            break
        if task.is_later:
            times += _turned(page, viewer, task.limit)
        else:
            times.append(_timed(page, viewer, task.limit, None)[0])
        if len(times) >= task.least and time.monotonic() >= until:
            break
    return times


def _turned(page: Page, viewer: int, limit: int) -> list[float]:
    """How long the pages after the first one took; none where there are none."""
    times: list[float] = []
    _, following = page(viewer, limit, None)
    for turn in range(1, TURNS):
        if following is None:
            break
        took_s, last = _timed(page, viewer, limit, following)
        times.append(took_s)
        following = last if last is None or turn % 2 else _further(following, last)
    return times


def _further(before: int, last: int) -> int:
    end_ms = END_MS if last > before else END_MS - MONTH_MS
    return (last + sort_key(end_ms, 0)) // 2


def _timed(page: Page, viewer: int, limit: int, beyond: int | None) -> tuple[float, int | None]:
    began = time.perf_counter()
    _, following = page(viewer, limit, beyond)
    return time.perf_counter() - began, following


def _ours(contender: Contender) -> Page:
    open_database(contender.url, max_connections=2)
    feed = contender.feed
    assert feed is not None
    order = feed.oldest_first
    recent = RecentItems(int(DEFAULTS["RECENT_ITEMS"])) if contender.remembers else None

    def page(viewer: int, limit: int, beyond: int | None) -> Found:
        if beyond is None and order:
            beyond = reading_place.begin(viewer, feed, limit, NOW_US)
        found = None
        if recent is not None and beyond is None:
            found = recent_page(recent, viewer, feed.filter, limit)
        found = found or timeline_page(
            viewer, feed.filter, beyond, limit, NOW_US, oldest_first=order
        )
        shown: list[Shown] = [(item.post_uri, item.repost_uri) for item in found.items]
        return shown, found.items[-1].key if found.has_more else None

    return page


def _official(url: str) -> Page:
    run = _runner(url)

    def page(viewer: int, limit: int, beyond: int | None) -> Found:
        assert beyond is None, "first pages only"
        did = did_of(viewer)
        found = [*run(_FOLLOWED, (did, limit)), *run(_OWN, (did, min(limit, _MOST_OWN)))]
        found.sort(key=lambda row: (row[2], row[3]), reverse=True)
        return [(post, None if uri == post else uri) for uri, post, _, _ in found[:limit]], None

    return page


def _runner(url: str) -> Callable[[str, Sequence[object]], list[tuple[Any, ...]]]:
    if url.startswith("sqlite"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"))
        # As ours has it.
        for setting in ("cache_size = -64000", "mmap_size = 1073741824", "temp_store = memory"):
            lite.execute(f"PRAGMA {setting}")
        return lambda sql, values: lite.execute(sql, values).fetchall()
    connection = psycopg2.connect(url)
    connection.autocommit = True

    def run(sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return list(cursor.fetchall())

    return run
