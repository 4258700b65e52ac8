"""What one web process remembers of the database, so that most first pages need no search in it.

A cache, and nothing else: it can be dropped at any time, and is filled by the pages that ask.

Promises. At the moment of the last look (`RecentItems.look`), whatever was read before it and is
here is as the database has it: `touched.py` says what to forget. What is read from the database is
kept only if nothing was heard of meanwhile; else it might be older than what was heard. That it may
be newer is what reads have numbers for: recent_page.py says why a page is of one moment. Of a
viewer nothing is kept but whom they follow, under their number.

Bounds: `most_items` items, and what recent_memory.py says. Who follows over MOST_FOLLOWED is not
remembered. Of threads that are over the bound all go; of items, those that were on no page for
IDLE_SECONDS. For more viewers than there is room for nobody else has to go, or each would have to
be read again when they come: whoever is not here is searched for in the database. An eighth of the
room for items stays free for what those who are here read anew. Of room for viewers there is some
again when RENEW_SECONDS have gone: then all is dropped, to hold those who come now.
"""

import threading
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from server.core.feed import TimelineItem
from server.core.projection import REPLY
from server.core.threads import Thread, others_in
from server.storage.filters import THREAD_COLUMNS
from server.storage.page_sql import COLUMNS, LOWEST
from server.storage.prepared import (
    each,
    each_with_floor,
    is_open_since_before,
    prepared_rows,
    with_floors,
)
from server.storage.recent_memory import (
    MOST_AGAIN,
    Followed,
    Memory,
    OfAccount,
    RecentItem,
    Shown,
)
from server.storage.records import IS_POST, is_repost
from server.storage.timeline import dress
from server.storage.touched import NOTED_SINCE, Heard, Listener

# Beyond this a search in the database is faster.
MOST_FOLLOWED = 5_000

_ITEM_COLUMNS = ", ".join(f"i.{name}" for name in (*COLUMNS, "root_id", "root_rkey"))
_ITEM_WIDTH = len(COLUMNS) + 2
# Of items from :floor on that hang on something, as of the others nobody has asked.
_THREADS_OF_SOME = ", ".join(
    f"CASE WHEN i.id >= :floor AND {IS_POST.format(i='i')} AND i.subject_id IS NOT NULL"
    f" THEN {one} END"
    for one in THREAD_COLUMNS
)
# In place of an account, in a row that says that something was noted since the last look.
_NOBODY = 0

_key = itemgetter(0)


class Beside(NamedTuple):
    """What is read in one statement with items: each is a wait for the database less.

    `newest`: the key of each account's newest item; `threads`: those of the replies among them.
    """

    newest: bool
    threads: bool


class RecentItems:
    """Safe to share between threads; one for each process.

    Whoever uses `memory` takes it after a look, and glances at `moment` before and after. If that
    is the same, and nothing used is of a read later than `confirmed`, all of it was of one moment
    (recent_page.py says why).
    """

    def __init__(self, most_items: int, count_page: Callable[[], None] = lambda: None) -> None:
        """`count_page` is called for each page that came out of here."""
        self.most_items = most_items
        self.count_page = count_page
        self.moment = 0
        # The last read that something was kept of, and the last one before a look that has ended.
        self.last_read = self.confirmed = 0
        self.memory = Memory()
        self._lock = threading.Lock()
        self._listener = Listener(self._hear)

    def look(self) -> None:
        """Hear what was committed before the call, and forget what it changed."""
        last_read = self.last_read
        self._listener.look()
        # Of two threads here the slower may put it back: then somebody looks once more.
        self.confirmed = max(self.confirmed, last_read)

    def read_followed(self, viewer: int) -> None:
        """Read whom a viewer follows, if there is room for it: `Memory.is_full` tells."""
        moment = self.moment
        found = prepared_rows(
            "SELECT DISTINCT subject_id FROM follows WHERE viewer_id = :viewer LIMIT :most",
            {"viewer": viewer, "most": MOST_FOLLOWED + 1},
        )
        accounts = sorted({viewer, *(account for (account,) in found)})
        is_too_many = len(found) > MOST_FOLLOWED
        with self._lock:
            if self.moment == moment:
                self._make_room_for(accounts[:1] if is_too_many else accounts)
                if self.memory.is_full:
                    return
                if not is_too_many:
                    self._number_read(self.memory, [self.memory.place(viewer)])
                self.memory.keep_followed(viewer, None if is_too_many else accounts)

    def has_room_for(self, followed: Followed, count: int) -> bool:
        """For a page of one who has `followed` these, of so many items that are looked at."""
        if count <= followed.most_held:
            return True
        if not self.memory.is_roomy(self.most_items):
            with self._lock:
                self.memory.drop_idle_items()
        is_time = time.monotonic() >= followed.tries_at_s
        return is_time and self.memory.is_roomy(self.most_items)

    def read_newest(self, memory: Memory, places: Sequence[int]) -> None:
        """Read the key of each account's newest item, by their places in this memory."""
        moment = self.moment
        accounts = [memory.accounts[place] for place in places]
        found = dict(
            prepared_rows(
                f"SELECT r.author_id, r.newest_id FROM {each('accounts')} a"
                " CROSS JOIN repos r WHERE r.author_id = a.number AND r.is_active = 1",
                {"accounts": accounts},
            )
        )
        with self._lock:
            if self._is_still(moment, memory):
                self._number_read(memory, places)
                for place, account in zip(places, accounts, strict=True):
                    memory.newest[place] = found.get(account, LOWEST)

    def read_items(
        self, memory: Memory, places: Sequence[int], floor: int, count: int, beside: Beside
    ) -> None:
        """Read the newest items of these accounts, down to `floor`, `count` in all at most.

        Of accounts that were touched also what had been here before, for pages of others:
        MOST_AGAIN more items at most, and none where there is little room. Raises NoRoomError. In
        PostgreSQL, where a look is a wait, the statement says as well whether anything was noted
        since the last one. If not, what it read is of that moment: it needs no number, and no page
        has to look again for it.
        """
        heard, moment = self._listener.heard, self.moment
        accounts = [memory.accounts[place] for place in places]
        depths = (memory.depths[place] for place in places)
        floors = [
            min(floor, depth) if memory.is_roomy(self.most_items) else floor for depth in depths
        ]
        most = count + (MOST_AGAIN if min(floors) < floor else 0)
        values: dict[str, int | str | list[Any]] = {"floor": floor, "most": most}
        values |= with_floors(accounts, floors)
        if heard is not None:
            values["snapshot"] = heard.snapshot
        read = prepared_rows(_items_sql(beside, says_news=heard is not None), values)
        newest = {account: key for key, account, rkey, *_ in read if rkey is None}
        is_of_last_look = _NOBODY not in newest and _is_known_since(heard)
        found = sorted((row for row in read if row[2] is not None), key=_key)
        cut = found[0][0] if len(found) == most else LOWEST
        items: dict[int, list[RecentItem]] = {account: [] for account in accounts}
        threads = []
        for row, dressed in zip(found, dress(found), strict=True):
            item, told = _recent_item(row, dressed), row[_ITEM_WIDTH:]
            items[item.author].append(item)
            if told and told[-1] is not None:
                threads.append((item.thread, *told))
        with self._lock:
            if not self._is_still(moment, memory):
                return
            if not is_of_last_look:
                self._number_read(memory, places)
            self._keep_threads(memory, threads)
            for place, account, reached in zip(places, accounts, floors, strict=True):
                if beside.newest:
                    memory.newest[place] = newest.get(account, LOWEST)
                memory.keep_items(place, OfAccount(items[account], max(reached, cut)))
            memory.make_room_for_items(self.most_items, places)

    def read_threads(self, memory: Memory, replies: Sequence[RecentItem]) -> None:
        """Read what is to be known of the threads of these replies."""
        moment = self.moment
        found = prepared_rows(
            "SELECT i.author_id, i.subject_id, i.subject_rkey, i.root_id, i.root_rkey,"
            f" {', '.join(THREAD_COLUMNS)} FROM {each('ids')} n CROSS JOIN feed_items i"
            " WHERE i.id = n.number",
            {"ids": [reply.key for reply in replies]},
        )
        with self._lock:
            if self._is_still(moment, memory):
                self._number_read(memory, [memory.place(author) for author, *_ in found])
                self._keep_threads(memory, [(Thread(*row[:5]), *row[5:]) for row in found])

    def keep_shown(self, memory: Memory, viewer: int, followed: Followed, shown: Shown) -> None:
        """Keep what a viewer's page was taken from."""
        with self._lock:
            if self.memory is memory:
                memory.keep_shown(viewer, followed, shown, self.most_items)

    def _keep_threads(self, memory: Memory, found: Sequence[tuple[Any, ...]]) -> None:
        """Threads, each with what THREAD_SQL says of it."""
        memory.make_room_for_threads(self.most_items)
        for thread, grandparent, is_hidden, is_gone in found:
            others = others_in(
                thread,
                grandparent=grandparent,
                is_hidden=bool(is_hidden),
                is_gone=bool(is_gone),
            )
            accounts = {thread.parent, thread.root, grandparent} - {None}
            memory.keep_thread(thread, others, accounts)

    def _is_still(self, moment: int, memory: Memory) -> bool:
        """Nothing was heard of since, and the memory was not dropped: places mean the same."""
        return self.moment == moment and self.memory is memory

    def _number_read(self, memory: Memory, places: Sequence[int]) -> None:
        """Before anything is kept of a read, so that whoever comes upon it finds its number."""
        self.last_read += 1
        for place in places:
            memory.last_reads[place] = self.last_read

    def _hear(self, touched: Sequence[int] | None) -> None:
        with self._lock:
            if touched is None:
                self.memory = Memory()
            else:
                self.memory.drop(touched, self.moment + 1)
            # At the end: whoever glances at it meanwhile may use what is still to be dropped.
            self.moment += 1

    def _make_room_for(self, accounts: Sequence[int]) -> None:
        self.memory.is_full = not self.memory.has_room(accounts, self.most_items)
        if self.memory.is_full and time.monotonic() >= self.memory.renewable_s:
            self.memory = Memory()
            self.moment += 1


def _items_sql(beside: Beside, *, says_news: bool) -> str:
    """Items, in any order. With `newest` a row of each account shown, without a record key.

    `says_news`: with a row of _NOBODY if anything was noted since the look with this :snapshot.
    """
    columns = f"{_ITEM_COLUMNS}, {_THREADS_OF_SOME}" if beside.threads else _ITEM_COLUMNS
    width = _ITEM_WIDTH + (len(THREAD_COLUMNS) if beside.threads else 0)
    nulls = ", NULL" * (width - 2)
    sql = (
        # b: the part of each account's items that may be among them, which is not everything that a
        # bot wrote since. Two more steps, or PostgreSQL would go through everybody's items until
        # there are enough.
        "WITH b AS MATERIALIZED (SELECT a.number, coalesce((SELECT i.id FROM feed_items i"
        " WHERE i.author_id = a.number AND i.id >= a.floor"
        " ORDER BY i.id DESC LIMIT 1 OFFSET :most - 1), a.floor) AS floor"
        f" FROM {each_with_floor()} a),"
        " f AS MATERIALIZED (SELECT i.id FROM b CROSS JOIN feed_items i"
        " WHERE i.author_id = b.number AND i.id >= b.floor),"
        " n AS MATERIALIZED (SELECT id FROM f ORDER BY id DESC LIMIT :most)"
        f" SELECT {columns} FROM n CROSS JOIN feed_items i WHERE i.id = n.id"
    )
    if beside.newest:
        sql += (
            f" UNION ALL SELECT r.newest_id, r.author_id{nulls}"
            f" FROM {each_with_floor()} a CROSS JOIN repos r"
            " WHERE r.author_id = a.number AND r.is_active = 1"
        )
    return f"{sql} UNION ALL SELECT 0, {_NOBODY}{nulls} WHERE {NOTED_SINCE}" if says_news else sql


def _is_known_since(heard: Heard | None) -> bool:
    """Whether what this thread was just told of news since that look counts (touched.py)."""
    return heard is not None and is_open_since_before(heard.began_s)


def _recent_item(row: tuple[Any, ...], item: TimelineItem) -> RecentItem:
    key, author, _, flags, subject, subject_rkey, root, root_rkey, *_ = row
    is_reposted = is_repost(flags)
    is_reply = not is_reposted and bool(flags & REPLY)
    thread = None
    if is_reply and subject is not None:
        thread = Thread(author, subject, subject_rkey, root, root_rkey)
    return RecentItem(key, author, is_reposted, is_reply, thread, item)
