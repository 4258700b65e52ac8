"""Those who ask for pages: each contender has client processes, which wait until they are told.

Ours is `timeline_page` as the service calls it, and where first pages may come out of memory,
`recent_page` before it, with the bounds that are the default. The official one is what its
`getTimeline` asks its database: the newest items of those followed, by a join in the order of time,
and at most ten of the viewer's own, merged. All end with the URIs of posts and reposts.
"""

import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psycopg2

from benchmarks.rig.timeline_world import END_MS, did_of
from server.core.config import DEFAULTS
from server.core.feed import TimelineFilter
from server.storage.opening import open_database
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
from server.storage.timeline import timeline_page

# Post, and the repost that brought it.
Shown = tuple[str, str | None]
Page = Callable[[int, int], list[Shown]]

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
    """Who answers, from which database; `shown` is the filter of our feed (None: official).

    `remembers`: pages come out of memory, as in a web process, where it can tell.
    """

    name: str
    url: str
    shown: TimelineFilter | None
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """Ask for pages of these viewers, in turn, for so long; at least `least` of them."""

    viewers: tuple[int, ...]
    limit: int
    seconds: float
    seed: int = 0
    least: int = 1


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
    page = _official(contender.url) if contender.shown is None else _ours(contender)
    while (asked := end.recv()) is not None:
        end.send(_run(page, asked) if isinstance(asked, Task) else page(*asked))


def _run(page: Page, task: Task) -> list[float]:
    viewers = list(task.viewers)
    random.Random(task.seed).shuffle(viewers)
    times: list[float] = []
    until = time.monotonic() + task.seconds
    while len(times) < task.least or time.monotonic() < until:
        viewer = viewers[len(times) % len(viewers)]
        began = time.perf_counter()
        page(viewer, task.limit)
        times.append(time.perf_counter() - began)
    return times


def _ours(contender: Contender) -> Page:
    open_database(contender.url, max_connections=2)
    shown = contender.shown
    assert shown is not None
    recent = RecentItems(int(DEFAULTS["RECENT_ITEMS"])) if contender.remembers else None

    def page(viewer: int, limit: int) -> list[Shown]:
        found = recent_page(recent, viewer, shown, limit) if recent else None
        found = found or timeline_page(viewer, shown, None, limit, END_MS * 1000)
        return [(item.post_uri, item.repost_uri) for item in found.items]

    return page


def _official(url: str) -> Page:
    run = _runner(url)

    def page(viewer: int, limit: int) -> list[Shown]:
        did = did_of(viewer)
        found = [*run(_FOLLOWED, (did, limit)), *run(_OWN, (did, min(limit, _MOST_OWN)))]
        found.sort(key=lambda row: (row[2], row[3]), reverse=True)
        return [(post, None if uri == post else uri) for uri, post, _, _ in found[:limit]]

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
