"""First pages of a feed out of what a process remembers (recent_items.py), without a search.

Promises. What `recent_page` gives is what `timeline_page` would have given at a moment after the
call began: the newest items of the same order, by the same rules. Where memory cannot tell (too
many followed, too few items shown, no room, too much is changing), it gives None, and costs little.

Whoever was shown a page before is shown the same again, but for the items of those who were touched
since (`_again`). Else the way is that of `near` in page_sql.py: the n newest items can only come
from the n accounts whose newest items are newest, and none of them is older than the n-th of these.

Why a page is of one moment. A look (`look`) hears whose part was changed by what was committed
before it, and what is here of them is forgotten; nor is kept what was being read meanwhile. So what
stays over a look is as the database was then, and a page of nothing else is of that moment. What is
read after it may be newer: ann's posts are here, a batch deletes one of them and adds one of ben's,
and ben's are read now. So a page with such reads needs one more look. If that tells of nothing
(`moment` counts what was told), all is of the later moment; if it does, as here of ann and ben, the
page is put together again. Reads have numbers: `last_read` is the last one's, `last_reads` has each
account's, and `confirmed` is that of the last one before a look. A read that knows that nothing was
noted since the last look is of that look's moment: it has no number (`read_items`, PostgreSQL).
(`depths` only says how far down to read again; the state of wal_index.py only spares looks while
nothing is committed.)
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import compress
from operator import itemgetter

from server.core.feed import TimelineFilter
from server.core.threads import shows_reply
from server.storage.page_sql import HIGHEST, LOWEST
from server.storage.recent_items import Beside, RecentItems
from server.storage.recent_memory import (
    MOST_SHOWN,
    UNKNOWN,
    Followed,
    Memory,
    NoRoomError,
    RecentItem,
    Shown,
)
from server.storage.timeline import A_FEW, MARGIN, TimelinePage

# What is read: whom the viewer follows, their newest, items, threads; twice over, and then what
# was touched meanwhile.
MAX_ROUNDS = 12
# Accounts whose newest items are read without knowing whether they stand on the page.
MOST_AT_ONCE = 50
# Items that are looked at where a feed leaves most of them out.
MOST_NEAR = 500

_key = itemgetter(0)
_UNREAD: tuple[int, ...] = (-1,)


@cache
def suits(shown: TimelineFilter) -> bool:
    """Whether first pages of such a feed, newest first, can come out of memory.

    Not if it differs from the timeline in anything but what is looked at here, words that are still
    to be invented included.
    """
    is_known = shown == TimelineFilter(reposts=shown.reposts, replies=shown.replies)
    return is_known and shown.replies in ("all", "following", "none")


def recent_page(
    recent: RecentItems, viewer: int, shown: TimelineFilter, limit: int
) -> TimelinePage | None:
    """The first page of a viewer's feed that `suits`. Raises DatabaseError."""
    recent.look()
    for _ in range(MAX_ROUNDS):
        moment = recent.moment
        search = _Search(recent, recent.memory, moment, viewer, shown, limit + 1)
        try:
            found = search.run()
        except _NotReadError as missing:
            missing.read()
        except _OutOfReachError:
            return None
        else:
            if search.is_unconfirmed():
                # What was read, here or by another thread, may be newer than what was heard, and
                # one part newer than another.
                recent.look()
            if recent.moment == moment:
                recent.count_page()
                items = [one.item for one in found[:limit]]
                return TimelinePage(items, has_more=len(found) > limit)
    return None


class _NotReadError(Exception):
    """Something has to be read first."""

    def __init__(self, read: Callable[[], None]) -> None:
        super().__init__()
        self.read = read


class _OutOfReachError(Exception):
    """The page is not to be found in memory."""


@dataclass(frozen=True, slots=True)
class _Search:
    recent: RecentItems
    memory: Memory
    moment: int
    viewer: int
    shown: TimelineFilter
    wanted: int

    def run(self) -> list[RecentItem]:
        """As many items as are wanted, fewer only at the end."""
        followed = self._followed()
        is_whole = self.shown.reposts and self.shown.replies == "all"
        count = self.wanted if is_whole else int(self.wanted * MARGIN) + A_FEW
        while count <= MOST_NEAR and self.recent.has_room_for(followed, count):
            near = self._again(followed, count) or self._near(followed, count)
            found = near if is_whole else self._filtered(followed, near)
            if len(found) >= self.wanted or len(near) < count:
                followed.most_held = max(followed.most_held, count)
                return found[: self.wanted]
            count *= 2
        raise _OutOfReachError

    def is_unconfirmed(self) -> bool:
        """Whether anything was read, of those followed, since the last look began."""
        confirmed = self.recent.confirmed
        if self.recent.last_read == confirmed:
            return False
        followed = self.memory.followed.get(self.viewer)
        # If they are gone, that is being heard of at this moment.
        last_reads = self.memory.last_reads
        return followed is None or max(map(last_reads.__getitem__, followed.places)) > confirmed

    def _followed(self) -> Followed:
        try:
            followed = self.memory.followed[self.viewer]
        except KeyError:
            if self.memory.is_full and time.monotonic() < self.memory.renewable_s:
                raise _OutOfReachError from None
            raise _NotReadError(lambda: self.recent.read_followed(self.viewer)) from None
        if followed is None:
            raise _OutOfReachError
        return followed

    def _heads(self, followed: Followed, count: int) -> tuple[list[tuple[int, int]], int]:
        """The accounts with the newest items: key and place. And the key of the last of `count`.

        LOWEST, and all accounts with items, where there are fewer.
        """
        newest = self.memory.newest
        guess = followed.guess
        heads = [(newest[place], place) for place in followed.places if newest[place] >= guess]
        if len(heads) < count:
            heads = [(newest[place], place) for place in followed.places if newest[place] >= 0]
        heads.sort(reverse=True)
        if heads and heads[0][0] == UNKNOWN:
            # As they were found: another page may be reading them at this moment.
            unread = [place for key, place in heads if key == UNKNOWN]
            if followed.reach == HIGHEST or len(unread) > MOST_AT_ONCE:
                raise _NotReadError(lambda: self.recent.read_newest(self.memory, unread))
            # Those who were touched since the last page, and probably stand on this one.
            raise self._not_read(followed, unread, followed.reach, count, newest=True)
        if len(heads) < count:
            return heads, LOWEST
        # Threads may do this at the same time: each guess is as good.
        followed.guess = last = heads[count - 1][0]
        return heads[:count], last

    def _near(self, followed: Followed, count: int) -> list[RecentItem]:
        """The newest items, `count` unless there are no others."""
        # No item of the page is below `last`: so many accounts have one that is not.
        heads, last = self._heads(followed, count)
        held = [self.memory.items.get(place) for _, place in heads]
        near: list[RecentItem] = []
        for one in held:
            if one is not None:
                # A tuple of the key alone comes before the item that begins with it.
                near += one.items[bisect_left(one.items, (last,)) :]
        near.sort(key=_key, reverse=True)
        if len(near) >= count:
            last = near[count - 1].key
        unread = [
            place
            for (key, place), one in zip(heads, held, strict=True)
            if key >= last and (one is None or one.floor > last)
        ]
        if unread:
            raise self._not_read(followed, unread, last, count, newest=False)
        followed.reach = last
        now_s, used_s = time.monotonic(), self.memory.used_s
        for _, place in heads:
            used_s[place] = now_s
        if len(near) >= count:
            self._keep(followed, near[: min(count, MOST_SHOWN)])
        return near[:count]

    def _again(self, followed: Followed, count: int) -> list[RecentItem]:
        """The `count` newest items by way of those shown before; none where these do not tell."""
        shown = followed.shown
        if len(shown.items) < count:
            return []
        if shown.moment == self.moment:
            return list(shown.items[:count])
        since = map(shown.moment.__lt__, map(self.memory.moments.__getitem__, followed.places))
        touched = list(compress(followed.places, since))
        near = self._renewed(followed, shown, touched, count) if touched else list(shown.items)
        if len(near) < count:
            return []
        followed.reach = near[count - 1].key
        self._keep(followed, near[: len(shown.items)])
        return near[:count]

    def _renewed(
        self, followed: Followed, shown: Shown, touched: list[int], count: int
    ) -> list[RecentItem]:
        """What was shown, with the items that these have now: down to where all are known."""
        if len(touched) > MOST_AT_ONCE:
            return []
        memory, low = self.memory, shown.items[-1].key
        unread, theirs = [], []
        for place in touched:
            newest = memory.newest[place]
            if newest < low:
                continue
            # Items may be here of who was hidden while they were read.
            one = None if newest == UNKNOWN else memory.items.get(place)
            if one is None:
                unread.append(place)
            else:
                theirs.append(one)
        if unread:
            raise self._not_read(followed, unread, low, count, newest=True)
        # Of who wrote very much only the newest are here.
        low = max([low, *(one.floor for one in theirs)])
        accounts = set(map(memory.accounts.__getitem__, touched))
        near = [one for one in shown.items if one.key >= low and one.author not in accounts]
        for one in theirs:
            near += one.items[bisect_left(one.items, (low,)) :]
        near.sort(key=_key, reverse=True)
        return near

    def _keep(self, followed: Followed, near: list[RecentItem]) -> None:
        self.recent.keep_shown(self.memory, self.viewer, followed, Shown(self.moment, near))

    def _not_read(
        self, followed: Followed, places: list[int], floor: int, count: int, *, newest: bool
    ) -> Exception:
        beside = Beside(newest, threads=self.shown.replies == "following")

        def read() -> None:
            try:
                self.recent.read_items(self.memory, places, floor, count, beside)
                followed.most_held = max(followed.most_held, count)
            except NoRoomError:
                followed.refuse(count)

        return _NotReadError(read)

    def _filtered(self, followed: Followed, near: list[RecentItem]) -> list[RecentItem]:
        """Those that the feed shows."""
        kept = near if self.shown.reposts else [item for item in near if not item.is_repost]
        if self.shown.replies == "all":
            return kept
        if self.shown.replies == "none":
            return [item for item in kept if not item.is_reply]
        return self._following(followed, kept)

    def _following(self, followed: Followed, kept: list[RecentItem]) -> list[RecentItem]:
        threads, is_followed = self.memory.threads, followed.__contains__
        found, unread = [], []
        for item in kept:
            thread = item.thread
            if thread is None:
                if not item.is_reply:
                    found.append(item)
            elif (others := threads.get(thread, _UNREAD)) is _UNREAD:
                unread.append(item)
            elif shows_reply(others, is_followed):
                found.append(item)
        if unread:
            raise _NotReadError(lambda: self.recent.read_threads(self.memory, unread))
        return found
