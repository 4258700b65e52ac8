"""A made-up month of posts and reposts, and viewers who follow its authors; the same for a seed.

Each item has a millisecond of its own, so that every contender has the same order. Three in ten
authors are quiet: they wrote nothing for the last three weeks. One is a bot with a hundredth of all
items. Follows go to whoever is active rather than to anybody; one in four of those followed, of
whatever kind, follows back. Each viewer has read Catch up to a place of the last day.
"""

import base64
import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from server.core.projection import MEDIA, QUOTE, REPLY, sort_key

END_MS = 1_795_000_000_000
DAYS, SILENT_DAYS = 30, 21
DAY_MS = 86_400_000
MONTH_MS, SILENT_MS = DAYS * DAY_MS, SILENT_DAYS * DAY_MS
ITEMS_AN_AUTHOR = 56
# There have to be enough quiet ones for somebody who follows 50,000 of them.
LEAST_AUTHORS = 180_000
BOT, BOT_SHARE, QUIET_OF_TEN = 1, 0.01, 3
# Follows as people have them: median 156, mean 415, one in a hundred over 4,000.
FOLLOWS_MEDIAN, FOLLOWS_SPREAD, FOLLOWS_MOST = 156, 1.4, 20_000
SIZES, KINDS = (50, 500, 5_000, 50_000), ("normal", "quiet", "bot")
# Viewers of each size and kind: a p99 over fewer would be that of one of them.
OF_EACH = 20
FOLLOWS_BACK_OF = 4
# One in so many has a record key of another day than its date.
OTHER_TIME_OF = 32
CHUNK = 20_000
# How far back replies and reposts reach, in items.
RECENT = 100_000

POST_KIND, REPOST_KIND = 0, 1


@dataclass(frozen=True, slots=True)
class Item:
    """A row of ours; `rkey` is the number of a TID."""

    ms: int
    key: int
    author: int
    rkey: int
    collection: int
    flags: int
    subject: int | None = None
    subject_rkey: int | None = None
    root: int | None = None
    root_rkey: int | None = None


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who reads and writes nothing. `group`: "mix", or kind and number of follows."""

    number: int
    group: str
    follows: tuple[int, ...]

    def is_followed_back(self, author: int) -> bool:
        """Whether somebody they follow follows them."""
        # Primes: an author's last digit, which says who is quiet, says nothing about this.
        return (author * 7_919 + self.number) % 1_009 % FOLLOWS_BACK_OF == 0

    @property
    def read_to(self) -> int:
        """The sort key that they have read Catch up to."""
        return sort_key(END_MS - 1 - self.number * 7_919_000 % DAY_MS, 0)


class TimelineWorld:
    """`items` of `authors` (numbered from 1), of strangers and of viewers (numbered after)."""

    def __init__(self, items: int, mixed: int, sizes: Sequence[int] = SIZES, seed: int = 1) -> None:
        self.count, self.mixed, self.sizes, self.seed = items, mixed, sizes, seed
        self.authors = max(LEAST_AUTHORS, items // ITEMS_AN_AUTHOR)
        self.strangers = range(self.authors + 1, self.authors + self.authors // 2)
        self.start_ms = END_MS - MONTH_MS

    @cached_property
    def weights(self) -> list[float]:
        """How much each author writes, from that of number 1 on."""
        rng = random.Random(self.seed)
        return [rng.lognormvariate(0, 1.8) for _ in range(self.authors)]

    def is_quiet(self, author: int) -> bool:
        """Whether they have been silent for weeks."""
        return author % 10 < QUIET_OF_TEN and author != BOT

    def items(self) -> Iterator[list[Item]]:
        """All of them in the order of time, in chunks."""
        rng = random.Random(self.seed + 1)
        everybody = self._cumulated(lambda author: True)
        awake = self._cumulated(lambda author: not self.is_quiet(author))
        numbers = range(1, self.authors + 1)
        recent: list[tuple[int, int]] = []
        for first in range(0, self.count, CHUNK):
            length = min(CHUNK, self.count - first)
            begin_ms = self.start_ms + first * MONTH_MS // self.count
            weights = everybody if begin_ms < END_MS - SILENT_MS else awake
            authors = rng.choices(numbers, cum_weights=weights, k=length)
            chunk = [self._item(rng, first + n, authors[n], recent) for n in range(length)]
            recent = [*recent, *((i.author, i.rkey) for i in chunk if i.collection == POST_KIND)]
            recent = recent[-RECENT:]
            yield chunk

    def viewers(self) -> list[Viewer]:
        """The mixed ones, and OF_EACH of each size and kind."""
        rng = random.Random(self.seed + 2)
        number = self.strangers.stop
        popular = list(accumulate(math.sqrt(weight) for weight in self.weights))
        quiet = [author for author in range(1, self.authors + 1) if self.is_quiet(author)]
        found: list[Viewer] = []
        for _ in range(self.mixed):
            size = int(rng.lognormvariate(math.log(FOLLOWS_MEDIAN), FOLLOWS_SPREAD))
            follows = self._popular(rng, popular, min(max(size, 1), FOLLOWS_MOST))
            found.append(Viewer(number + len(found), "mix", follows))
        for size in self.sizes:
            for kind in KINDS:
                for _ in range(OF_EACH):
                    if kind == "normal":
                        follows = self._popular(rng, popular, size)
                    else:
                        follows = tuple(rng.sample(quiet, size))
                        follows = (*follows[:-1], BOT) if kind == "bot" else follows
                    found.append(Viewer(number + len(found), f"{kind} {size:,}", follows))
        return found

    def _cumulated(self, counts: object) -> list[float]:
        weights = [
            weight if counts(author) else 0.0  # type: ignore[operator]
            for author, weight in enumerate(self.weights, start=1)
        ]
        weights[BOT - 1] = (sum(weights) - weights[BOT - 1]) * BOT_SHARE
        return list(accumulate(weights))

    def _popular(self, rng: random.Random, weights: list[float], size: int) -> tuple[int, ...]:
        found: dict[int, None] = {}
        numbers = range(1, self.authors + 1)
        while len(found) < size:
            found |= dict.fromkeys(rng.choices(numbers, cum_weights=weights, k=size - len(found)))
        return tuple(found)

    def _item(
        self, rng: random.Random, number: int, author: int, recent: list[tuple[int, int]]
    ) -> Item:
        ms = self.start_ms + number * MONTH_MS // self.count
        chance = rng.random()
        bits = rng.getrandbits(32)
        key_ms = ms - DAY_MS if bits % OTHER_TIME_OF == 0 else ms
        rkey = (key_ms * 1000 + bits % 1000) << 10 | bits >> 22
        place = (ms, sort_key(ms, bits >> 4 & 0x3FFFF), author, rkey)
        if chance < 0.45:
            return Item(*place, REPOST_KIND, 0, *self._target(rng, recent))
        flags = (MEDIA if bits & 7 < 2 else 0) | (QUOTE if bits & 0x1F0 < 0x20 else 0)
        if chance < 0.75:
            return Item(*place, POST_KIND, flags)
        parent = self._target(rng, recent)
        root = (None, None) if bits & 0x200 else self._target(rng, recent)
        return Item(*place, POST_KIND, flags | REPLY, *parent, *root)

    def _target(self, rng: random.Random, recent: list[tuple[int, int]]) -> tuple[int, int]:
        """Mostly a post that there is, of these days; otherwise a stranger's."""
        if recent and rng.random() < 0.8:
            return recent[int(rng.random() * len(recent))]
        rkey = (self.start_ms - rng.getrandbits(30)) * 1000 << 10
        return self.strangers[int(rng.random() * len(self.strangers))], rkey


def did_of(number: int) -> str:
    """The DID of somebody: as random to an index as real ones are."""
    digest = hashlib.sha256(number.to_bytes(8)).digest()
    return "did:plc:" + base64.b32encode(digest)[:24].decode().lower()
