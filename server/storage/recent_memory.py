"""What one web process remembers for first pages: plain containers, and how much fits in.

Bounds: of `most_items`, which the caller keeps to, as many threads, as many items of viewers' last
pages, ACCOUNTS_AN_ITEM times as many accounts that are followed, and FOLLOWS_AN_ITEM times as many
follows. An item takes about 600 bytes with its thread, on somebody's last page 8 more, an account
160, a follow 8.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.core.feed import TimelineItem
from server.core.threads import Thread
from server.storage.page_sql import HIGHEST

ACCOUNTS_AN_ITEM, FOLLOWS_AN_ITEM = 8, 64
# Parent, root and grandparent.
ACCOUNTS_A_THREAD = 3
RENEW_SECONDS = 600.0
# Items that were on no page for so long go if there is no room; it is looked for them that often.
IDLE_SECONDS, SWEEP_SECONDS = 600.0, 60.0
# So small a part of the room for items is kept for those whose pages are here already.
SPARE = 8
# As many items are read again beyond those that a page needs, of accounts that were touched, and of
# one account at most.
MOST_AGAIN = 30
# Of a viewer's last page.
MOST_SHOWN = 100
# In place of a key that has to be read: whoever looks for the newest ones comes upon it.
UNKNOWN = HIGHEST


class NoRoomError(Exception):
    """What was read finds no room, and was not kept."""


class RecentItem(NamedTuple):
    """An item; `thread`: what it hangs on, of a reply that names it."""

    key: int
    author: int
    is_repost: bool
    is_reply: bool
    thread: Thread | None
    item: TimelineItem


class OfAccount(NamedTuple):
    """An account's items, oldest first: all whose key is `floor` or more."""

    items: Sequence[RecentItem]
    floor: int


class Shown(NamedTuple):
    """All items of those followed from a key on, newest first, as they were at a moment."""

    moment: int
    items: Sequence[RecentItem]


NOTHING_SHOWN = Shown(0, ())


class Followed:
    """Whose items a viewer's feeds show: those followed, and the viewer; `places` of Memory.

    `guess`: so many accounts as the last page looked at had an item that was not older.
    `reach`: how far down that page went. Both are HIGHEST before there was one. `shown`: what that
    page was taken from, or NOTHING_SHOWN.
    `most_held`: the longest page, in items looked at, for which there was room; 0 before that.
    `tries_at_s`: when it is looked again whether there is room for a longer one.
    """

    __slots__ = ("accounts", "guess", "most_held", "places", "reach", "shown", "tries_at_s")

    def __init__(self, accounts: Sequence[int], places: Iterable[int]) -> None:
        """`accounts`: in ascending order."""
        self.accounts = array("i", accounts)
        self.places = array("i", places)
        self.guess = self.reach = HIGHEST
        self.shown = NOTHING_SHOWN
        self.most_held = 0
        self.tries_at_s = 0.0

    def refuse(self, count: int) -> None:
        """There was no room for a page of so many items: it is not tried again for a while."""
        self.most_held = min(self.most_held, count - 1)
        self.tries_at_s = time.monotonic() + SWEEP_SECONDS

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
        self.swept_s = float("-inf")
        # No room for other viewers.
        self.is_full = False
        # Of a viewer. None: they follow too many.
        self.followed: dict[int, Followed | None] = {}
        self.accounts = array("i")
        self.newest = array("q")
        # How far down items were here, of who was touched since; HIGHEST if none were.
        self.depths = array("q")
        # The number of the last read for each, and of no later one is what is known of it here:
        # recent_page.py says what for.
        self.last_reads = array("q")
        # The moment of RecentItems at which each was last touched.
        self.moments: list[int] = []
        # When an account's items were last on a page, by the monotonic clock.
        self.used_s = array("d")
        # By the account's place.
        self.items: dict[int, OfAccount] = {}
        # Who else is in it: core/threads.py.
        self.threads: dict[Thread, tuple[int, ...] | None] = {}
        self.place_of: dict[int, int] = {}
        self.threads_of: dict[int, set[Thread]] = {}
        # `threads_named`: at least as many as all sets of threads_of have.
        self.items_held = self.shown_held = self.follows_held = self.threads_named = 0

    def place(self, account: int) -> int:
        """The account's place, given out now if it has none."""
        place = self.place_of.setdefault(account, len(self.accounts))
        if place == len(self.accounts):
            self.accounts.append(account)
            self.newest.append(UNKNOWN)
            self.depths.append(HIGHEST)
            self.last_reads.append(0)
            self.moments.append(0)
            self.used_s.append(0.0)
        return place

    def keep_items(self, place: int, kept: OfAccount) -> None:
        """Keep an account's items, unless more of them are here."""
        old = self.items.get(place)
        if old is None or kept.floor < old.floor:
            self.drop_items(place)
            self.items[place] = kept
            self.items_held += len(kept.items)
            self.used_s[place] = time.monotonic()

    def drop_items(self, place: int) -> None:
        """Forget an account's items."""
        dropped = self.items.pop(place, None)
        if dropped is not None:
            self.items_held -= len(dropped.items)

    def is_roomy(self, most_items: int) -> bool:
        """Whether there is room for pages that are not here."""
        return self.items_held <= most_items - most_items // SPARE

    def make_room_for_items(self, most_items: int, places: Sequence[int]) -> None:
        """If there are more: forget idle ones; or those of `places`, and raise NoRoomError."""
        if self.items_held > most_items:
            self.drop_idle_items()
        if self.items_held > most_items:
            for place in places:
                self.drop_items(place)
            raise NoRoomError

    def drop_idle_items(self) -> None:
        """Forget the items that were on no page for long, if that was not looked at just now."""
        now_s = time.monotonic()
        if now_s < self.swept_s + SWEEP_SECONDS:
            return
        self.swept_s = now_s
        for place in [one for one in self.items if self.used_s[one] <= now_s - IDLE_SECONDS]:
            self.drop_items(place)

    def keep_followed(self, viewer: int, accounts: Sequence[int] | None) -> None:
        """Keep whom a viewer follows, in ascending order; None: too many."""
        self.drop_followed(viewer)
        kept = None if accounts is None else Followed(accounts, map(self.place, accounts))
        self.followed[viewer] = kept
        self.follows_held += _size(kept)

    def drop_followed(self, viewer: int) -> None:
        """Forget whom a viewer follows."""
        if viewer not in self.followed:
            return
        dropped = self.followed.pop(viewer)
        self.follows_held -= _size(dropped)
        self.is_full = False
        if dropped is not None:
            self.shown_held -= len(dropped.shown.items)
            # Until somebody else's page has them, or theirs again.
            for place in dropped.places:
                self.used_s[place] = 0.0

    def keep_shown(self, viewer: int, followed: Followed, shown: Shown, most: int) -> None:
        """Keep what a viewer's page was taken from; beyond `most` items all such is forgotten."""
        # They may follow others by now, whose items are not among these.
        if self.followed.get(viewer) is not followed:
            return
        self.shown_held += len(shown.items) - len(followed.shown.items)
        followed.shown = shown
        if self.shown_held > most:
            for one in self.followed.values():
                if one is not None:
                    one.shown = NOTHING_SHOWN
            self.shown_held = 0

    def has_room(self, accounts: Sequence[int], most_items: int) -> bool:
        """For one more viewer, who follows these."""
        new = len(accounts) - len(self.place_of.keys() & accounts)
        return (
            len(self.accounts) + new <= most_items * ACCOUNTS_AN_ITEM
            and self.follows_held + len(accounts) <= most_items * FOLLOWS_AN_ITEM
        )

    def make_room_for_threads(self, most: int) -> None:
        """Forget all threads if there are more."""
        # One that was forgotten because of one account is still named by the others.
        if len(self.threads) > most or self.threads_named > most * ACCOUNTS_A_THREAD:
            self.threads.clear()
            self.threads_of.clear()
            self.threads_named = 0

    def keep_thread(
        self, thread: Thread, others: tuple[int, ...] | None, accounts: Iterable[int]
    ) -> None:
        """Keep who else is in a thread, until one of these accounts is touched."""
        self.threads[thread] = others
        for account in accounts:
            self.threads_of.setdefault(account, set()).add(thread)
            self.threads_named += 1

    def drop(self, accounts: Sequence[int], moment: int) -> None:
        """Forget all that was touched when these accounts were, as of a moment that begins."""
        # Of thousands of them a few are here: they are sorted out in C.
        for viewer in self.followed.keys() & accounts:
            self.drop_followed(viewer)
        for account in self.place_of.keys() & accounts:
            place = self.place_of[account]
            self.newest[place], self.moments[place] = UNKNOWN, moment
            held = self.items.get(place)
            if held is not None:
                is_much = len(held.items) > MOST_AGAIN
                self.depths[place] = held.items[-MOST_AGAIN].key if is_much else held.floor
                self.drop_items(place)
        for account in self.threads_of.keys() & accounts:
            threads = self.threads_of.pop(account)
            self.threads_named -= len(threads)
            for thread in threads:
                self.threads.pop(thread, None)


def _size(followed: Followed | None) -> int:
    return 1 if followed is None else len(followed.accounts)
