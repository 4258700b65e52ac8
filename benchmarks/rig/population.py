"""Accounts with repos that already hold thousands of records, for commits of a realistic size.

The trees below the repos are real and shared: what a tree held before the run is a key with a
random CID. Only what is written during the run has records.
"""

import random
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import accumulate

from server.core.syntax import FOLLOW, POST, REPOST
from simnet import mst
from simnet.dag_cbor import Cid
from simnet.keys import key_from_seed
from simnet.repo import Repo, Write
from simnet.tid import tid_at

LIKE, BLOCK, PROFILE = "app.bsky.feed.like", "app.bsky.graph.block", "app.bsky.actor.profile"

BASE_TREES = 16
# Chosen so that a frame has the size of a live one: 5.4 kB in the median.
TREE_KEYS_MEDIAN, TREE_KEYS_SPREAD, TREE_KEYS_MOST = 9_000, 1.0, 60_000
YEAR_US = 365 * 86_400_000_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(slots=True)
class Account:
    """Somebody who writes; `first_since` is the rev before their first commit of the run."""

    did: str
    tree: mst.Node
    clock_id: int
    repo: Repo | None = None
    first_since: str = ""
    written: dict[str, list[str]] = field(default_factory=dict)

    def open(self, now_us: int) -> Repo:
        """The repo; at first sight with the commit that everybody has seen already."""
        if self.repo is None:
            self.repo = Repo(self.did, key_from_seed(self.did), self.clock_id)
            self.repo.root = self.tree
            before_us = now_us - 3_600_000_000
            head, _ = self.repo.commit([Write("create", PROFILE, "self", {})], before_us)
            self.first_since = head.rev
        return self.repo

    def remember(self, collection: str, rkey: str) -> None:
        """A record that may be deleted or edited later."""
        insort(self.written.setdefault(collection, []), rkey)

    def forget(self, collection: str, rkey: str) -> None:
        """It is gone."""
        rkeys = self.written[collection]
        del rkeys[bisect_left(rkeys, rkey)]


class Population:
    """Some accounts, a few of them much busier than most."""

    def __init__(self, rng: random.Random, count: int, now_us: int) -> None:
        self.rng = rng
        trees = [_base_tree(rng, now_us) for _ in range(BASE_TREES)]
        self.accounts = [
            Account(_did(rng, number), rng.choice(trees), number % 1024) for number in range(count)
        ]
        weights = [1 / (rank + 400) ** 0.6 for rank in range(count)]
        self._weights = list(accumulate(weights))

    def anybody(self) -> Account:
        """Somebody, the busy ones more often."""
        return self.rng.choices(self.accounts, cum_weights=self._weights)[0]


def _did(rng: random.Random, number: int) -> str:
    if number % 400 == 7:
        return f"did:web:u{number}.example.org"
    return "did:plc:" + "".join(rng.choices(_LETTERS, k=24))


def _base_tree(rng: random.Random, now_us: int) -> mst.Node:
    keys_wanted = min(
        TREE_KEYS_MOST, int(rng.lognormvariate(0, TREE_KEYS_SPREAD) * TREE_KEYS_MEDIAN)
    )
    collections = rng.choices(
        (LIKE, POST, REPOST, FOLLOW, BLOCK), (66, 14, 10, 8, 2), k=keys_wanted
    )
    keys = {
        f"{collection}/{tid_at(now_us - rng.randrange(2 * YEAR_US), rng.getrandbits(10))}"
        for collection in collections
    }
    root: mst.Node | None = None
    for key in sorted(text.encode() for text in keys):
        value = Cid(b"\x01\x71\x12\x20" + rng.randbytes(32))
        root = mst.join(root, mst.Node(mst.layer_of(key), None, (mst.Entry(key, value, None),)))
    assert root is not None
    mst.new_blocks(root)
    return root
