"""What one web process remembers of the database, so that most first pages need no search in it.

A cache, and nothing else: it can be dropped at any time, and is filled by the pages that ask.

Promises. At the moment of the last look (`RecentItems.look`), whatever is here is as the database
has it: `touched.py` says what to forget. What is read from the database is kept only if nothing was
heard of meanwhile; else it might be older than what was heard. Of a viewer nothing is kept but whom
they follow, under their number.

Bounds: `most_items` items, and as many threads; ACCOUNTS_AN_ITEM times as many accounts that are
followed, and FOLLOWS_AN_ITEM times as many follows. Who follows over MOST_FOLLOWED is not
remembered. Of what is over the bound items go, those of accounts that have been here longest, and
threads, all of them. For more viewers than there is room for nobody has to go, or each would have
to be read again when they come: whoever is not here is searched for in the database, until
RENEW_SECONDS have gone and all is dropped, to hold those who come now. An item takes about 600
bytes with its thread, an account 150, a follow 8.
"""

import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from server.core.feed import TimelineItem
from server.core.projection import REPLY
from server.core.threads import Thread, others_in
from server.storage.filters import THREAD_SQL
from server.storage.page_sql import COLUMNS, HIGHEST, LOWEST
from server.storage.prepared import each, prepared_rows
from server.storage.timeline import dress
from server.storage.touched import Listener

# Beyond this a search in the database is faster.
MOST_FOLLOWED = 5_000
ACCOUNTS_AN_ITEM, FOLLOWS_AN_ITEM = 8, 64
RENEW_SECONDS = 600.0
# In place of a key that has to be read: whoever looks for the newest ones comes upon it.
UNKNOWN = HIGHEST

_ITEM_COLUMNS = ", ".join(f"i.{name}" for name in (*COLUMNS, "flags", "root_id", "root_rkey"))


class RecentItem(NamedTuple):
    """An item; `thread`: what it hangs on, of a reply that names it."""

    key: int
    author: int
    is_repost: bool
    is_reply: bool
    thread: Thread | None
    item: TimelineItem


class OfAccount(NamedTuple):
    """An account's items, newest first: all whose key is `floor` or more."""

    items: Sequence[RecentItem]
    floor: int


class Followed:
    """Whose items a viewer's feeds show: those followed, and the viewer; `places` of Memory.

    `guess`: so many accounts as the last page looked at had an item that was not older.
    """

    __slots__ = ("accounts", "guess", "places")

    def __init__(self, accounts: Sequence[int], places: Iterable[int]) -> None:
        """`accounts`: in ascending order."""
        self.accounts = array("i", accounts)
        self.places = array("i", places)
        self.guess = HIGHEST

    def __contains__(self, account: int) -> bool:
        place = bisect_left(self.accounts, account)
        return place < len(self.accounts) and self.accounts[place] == account


class Memory:
    """What is remembered, until it is dropped as a whole.

    Accounts that are followed have a place of their own here, in `newest`: the key of each one's
    newest item that is shown, or LOWEST, or UNKNOWN. (In a dict, four hundred looks take five times
    as long.)
    """

    def __init__(self) -> None:
        self.renewable_s = time.monotonic() + RENEW_SECONDS
        # No room for other viewers.
        self.is_full = False
        # Of a viewer. None: they follow too many.
        self.followed: dict[int, Followed | None] = {}
        self.accounts = array("i")
        self.newest = array("q")
        # By the account's place.
        self.items: dict[int, OfAccount] = {}
        # Who else is in it: core/threads.py.
        self.threads: dict[Thread, tuple[int, ...] | None] = {}
        self.place_of: dict[int, int] = {}
        self.threads_of: dict[int, set[Thread]] = {}
        self.items_held = self.follows_held = 0

    def place(self, account: int) -> int:
        """The account's place, given out now if it has none."""
        place = self.place_of.setdefault(account, len(self.accounts))
        if place == len(self.accounts):
            self.accounts.append(account)
            self.newest.append(UNKNOWN)
        return place

    def keep_items(self, place: int, kept: OfAccount) -> None:
        """Keep an account's items, unless more of them are here."""
        old = self.items.get(place)
        if old is None or kept.floor < old.floor:
            self.drop_items(place)
            self.items[place] = kept
            self.items_held += len(kept.items)

    def drop_items(self, place: int) -> None:
        """Forget an account's items."""
        dropped = self.items.pop(place, None)
        if dropped is not None:
            self.items_held -= len(dropped.items)

    def keep_followed(self, viewer: int, accounts: Sequence[int] | None) -> None:
        """Keep whom a viewer follows, in ascending order; None: too many."""
        self.drop_followed(viewer)
        kept = None if accounts is None else Followed(accounts, map(self.place, accounts))
        self.followed[viewer] = kept
        self.follows_held += _size(kept)

    def drop_followed(self, viewer: int) -> None:
        """Forget whom a viewer follows."""
        if viewer in self.followed:
            self.follows_held -= _size(self.followed.pop(viewer))
            self.is_full = False

    def has_room(self, accounts: Sequence[int], most_items: int) -> bool:
        """For one more viewer, who follows these."""
        new = len(accounts) - len(self.place_of.keys() & accounts)
        return (
            len(self.accounts) + new <= most_items * ACCOUNTS_AN_ITEM
            and self.follows_held + len(accounts) <= most_items * FOLLOWS_AN_ITEM
        )

    def drop(self, accounts: Sequence[int]) -> None:
        """Forget all that was touched when these accounts were."""
        # Of thousands of them a few are here: they are sorted out in C.
        for viewer in self.followed.keys() & accounts:
            self.drop_followed(viewer)
        for account in self.place_of.keys() & accounts:
            place = self.place_of[account]
            self.newest[place] = UNKNOWN
            self.drop_items(place)
        for account in self.threads_of.keys() & accounts:
            for thread in self.threads_of.pop(account):
                self.threads.pop(thread, None)


class RecentItems:
    """Safe to share between threads; one for each process.

    Whoever reads `memory` takes it after a look, and glances at `moment` before and after: if that
    is the same, all that was read was of one moment.
    """

    def __init__(self, most_items: int, count_page: Callable[[], None] = lambda: None) -> None:
        """`count_page` is called for each page that came out of here."""
        self.most_items = most_items
        self.count_page = count_page
        self.moment = 0
        self.memory = Memory()
        self._lock = threading.Lock()
        self._listener = Listener(self._hear)

    def look(self) -> None:
        """Hear what was committed before the call, and forget what it changed."""
        self._listener.look()

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
                if not self.memory.is_full:
                    self.memory.keep_followed(viewer, None if is_too_many else accounts)

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
                for place, account in zip(places, accounts, strict=True):
                    memory.newest[place] = found.get(account, LOWEST)

    def read_items(self, memory: Memory, places: Sequence[int], floor: int, count: int) -> None:
        """Read the newest items of these accounts, down to `floor`, `count` in all at most."""
        moment = self.moment
        accounts = [memory.accounts[place] for place in places]
        found = prepared_rows(
            "WITH n AS MATERIALIZED (SELECT i.id"
            f" FROM {each('accounts')} a CROSS JOIN feed_items i"
            " WHERE i.author_id = a.number AND i.id >= :floor ORDER BY i.id DESC LIMIT :most)"
            f" SELECT {_ITEM_COLUMNS} FROM n CROSS JOIN feed_items i WHERE i.id = n.id"
            " ORDER BY i.id DESC",
            {"accounts": accounts, "floor": floor, "most": count},
        )
        if len(found) == count:
            floor = found[-1][0]
        items: dict[int, list[RecentItem]] = {account: [] for account in accounts}
        for row, item in zip(found, dress(found), strict=True):
            items[row[1]].append(_recent_item(row, item))
        with self._lock:
            if self._is_still(moment, memory):
                for place, account in zip(places, accounts, strict=True):
                    memory.keep_items(place, OfAccount(items[account], floor))
                self._make_room_for_items()

    def read_threads(self, memory: Memory, replies: Sequence[RecentItem]) -> None:
        """Read what is to be known of the threads of these replies."""
        moment = self.moment
        found = prepared_rows(
            "SELECT i.author_id, i.subject_id, i.subject_rkey, i.root_id, i.root_rkey,"
            f" {THREAD_SQL} FROM {each('ids')} n CROSS JOIN feed_items i WHERE i.id = n.number",
            {"ids": [reply.key for reply in replies]},
        )
        with self._lock:
            if self._is_still(moment, memory):
                if len(memory.threads) > self.most_items:
                    memory.threads.clear()
                    memory.threads_of.clear()
                for row in found:
                    *named, grandparent, is_hidden, is_gone = row
                    thread = Thread(*named)
                    memory.threads[thread] = others_in(
                        thread,
                        grandparent=grandparent,
                        is_hidden=bool(is_hidden),
                        is_gone=bool(is_gone),
                    )
                    for account in {thread.parent, thread.root, grandparent} - {None}:
                        memory.threads_of.setdefault(account, set()).add(thread)

    def _is_still(self, moment: int, memory: Memory) -> bool:
        """Nothing was heard of since, and the memory was not dropped: places mean the same."""
        return self.moment == moment and self.memory is memory

    def _hear(self, touched: Sequence[int] | None) -> None:
        with self._lock:
            self.moment += 1
            if touched is None:
                self.memory = Memory()
            else:
                self.memory.drop(touched)

    def _make_room_for(self, accounts: Sequence[int]) -> None:
        self.memory.is_full = not self.memory.has_room(accounts, self.most_items)
        if self.memory.is_full and time.monotonic() >= self.memory.renewable_s:
            self.moment += 1
            self.memory = Memory()

    def _make_room_for_items(self) -> None:
        memory = self.memory
        while memory.items_held > self.most_items:
            # Many at a time: to find the first of a dict whose first ones are gone takes long.
            for place in list(islice(memory.items, len(memory.items) // 8 + 1)):
                memory.drop_items(place)


def _size(followed: Followed | None) -> int:
    return 1 if followed is None else len(followed.accounts)


def _recent_item(row: tuple[Any, ...], item: TimelineItem) -> RecentItem:
    key, author, _, collection, subject, subject_rkey, flags, root, root_rkey = row
    is_repost = collection == 1
    is_reply = not is_repost and bool(flags & REPLY)
    thread = None
    if is_reply and subject is not None:
        thread = Thread(author, subject, subject_rkey, root, root_rkey)
    return RecentItem(key, author, is_repost, is_reply, thread, item)
