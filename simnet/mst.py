"""The Merkle Search Tree of a repo: immutable nodes, so that an old root stays readable.

Holds keys and CIDs, no records. In memory a child hangs below its parent directly, however
many layers lie between; the empty nodes that the format wants there appear when a node is
written. That leaves two operations, cut and join, from which the others follow.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from simnet.dag_cbor import Cid, encode, head, link

_NULL = b"\xf6"


class Entry(NamedTuple):
    """A key with its value, and the subtree between it and the next key."""

    key: bytes
    value: Cid
    right: "Node | None"


class Node:
    """One node: `left` below the first key, then the entries in key order. Never without keys."""

    __slots__ = ("_block", "_cid", "entries", "keys", "layer", "left")

    def __init__(self, layer: int, left: "Node | None", entries: tuple[Entry, ...]) -> None:
        self.layer = layer
        self.left = left
        self.entries = entries
        self.keys = [entry.key for entry in entries]
        self._block: bytes | None = None
        self._cid: Cid | None = None

    @property
    def is_written(self) -> bool:
        """Whether the block exists already, so that it is part of an earlier commit."""
        return self._block is not None

    @property
    def block(self) -> bytes:
        """The bytes of this node; below it everything is written first."""
        if self._block is None:
            self._block = _encode_node(self)
        return self._block

    @property
    def cid(self) -> Cid:
        """The hash of the block."""
        if self._cid is None:
            self._cid = Cid.of(self.block)
        return self._cid


EMPTY_BLOCK = encode({"e": [], "l": None})
EMPTY_CID = Cid.of(EMPTY_BLOCK)


def layer_of(key: bytes) -> int:
    """How high a key stands: half the zero bits that its hash begins with."""
    digest = int.from_bytes(hashlib.sha256(key).digest(), "big")
    return (256 - digest.bit_length()) // 2


def root_cid(root: Node | None) -> Cid:
    """What a commit names as `data`."""
    return EMPTY_CID if root is None else root.cid


def lookup(root: Node | None, key: bytes) -> Cid | None:
    """The value at a key, None if there is none."""
    node = root
    while node is not None:
        place = bisect_left(node.keys, key)
        if place < len(node.keys) and node.keys[place] == key:
            return node.entries[place].value
        node = _gap(node, place)
    return None


def insert(root: Node | None, key: bytes, value: Cid) -> Node:
    """A tree with one more key, which must be new."""
    low, found, high = cut(root, key)
    if found is not None:
        raise ValueError(f"{key!r} is in the tree")
    single = Node(layer_of(key), None, (Entry(key, value, None),))
    grown = join(join(low, single), high)
    return grown if grown is not None else single


def remove(root: Node | None, key: bytes) -> Node | None:
    """A tree without this key, which must be there; None is the empty tree."""
    low, found, high = cut(root, key)
    if found is None:
        raise KeyError(key)
    return join(low, high)


def replace(root: Node | None, key: bytes, value: Cid) -> Node:
    """A tree of the same shape with another value at an existing key."""
    if root is None:
        raise KeyError(key)
    place = bisect_left(root.keys, key)
    if place < len(root.keys) and root.keys[place] == key:
        return _with_entry(root, place, root.entries[place]._replace(value=value))
    changed = replace(_gap(root, place), key, value)
    return _with_gap(root, place, changed)


def cut(node: Node | None, key: bytes) -> tuple[Node | None, Entry | None, Node | None]:
    """All keys below `key`, its own entry, all keys above it."""
    if node is None:
        return None, None, None
    place = bisect_left(node.keys, key)
    if place < len(node.keys) and node.keys[place] == key:
        found: Entry | None = node.entries[place]
        low, high, after = _gap(node, place), node.entries[place].right, place + 1
    else:
        low, found, high = cut(_gap(node, place), key)
        after = place
    if place:
        low = _with_gap(Node(node.layer, node.left, node.entries[:place]), place, low)
    if after < len(node.entries):
        high = Node(node.layer, high, node.entries[after:])
    return low, found, high


def join(low: Node | None, high: Node | None) -> Node | None:
    """One tree of two, where every key of `low` is below every key of `high`."""
    if low is None or high is None:
        return low if high is None else high
    if low.layer > high.layer:
        last = len(low.entries)
        return _with_gap(low, last, join(_gap(low, last), high))
    if low.layer < high.layer:
        return Node(high.layer, join(low, high.left), high.entries)
    seam = join(low.entries[-1].right, high.left)
    entries = (*low.entries[:-1], low.entries[-1]._replace(right=seam), *high.entries)
    return Node(low.layer, low.left, entries)


def entries_of(root: Node | None) -> Iterator[tuple[bytes, Cid]]:
    """All keys with their values, in order."""
    if root is None:
        return
    yield from entries_of(root.left)
    for entry in root.entries:
        yield entry.key, entry.value
        yield from entries_of(entry.right)


def all_blocks(root: Node | None) -> dict[Cid, bytes]:
    """Every block of the tree, parents before children."""
    blocks: dict[Cid, bytes] = {}
    if root is None:
        blocks[EMPTY_CID] = EMPTY_BLOCK
    else:
        _collect(root, root.layer, blocks, only_new=False)
    return blocks


def new_blocks(root: Node | None) -> dict[Cid, bytes]:
    """The blocks that no earlier call has written, parents before children."""
    blocks: dict[Cid, bytes] = {}
    if root is None:
        blocks[EMPTY_CID] = EMPTY_BLOCK
    elif not root.is_written:
        _collect(root, root.layer, blocks, only_new=True)
    return blocks


def proof_blocks(root: Node | None, key: bytes) -> dict[Cid, bytes]:
    """The way down to a key and to both neighbours, which a reader needs to undo an operation."""
    blocks: dict[Cid, bytes] = {}
    node, parent_layer = root, root.layer + 1 if root else 0
    while node is not None:
        blocks.update(_wrapped(node, parent_layer - 1))
        place = bisect_left(node.keys, key)
        if place < len(node.keys) and node.keys[place] == key:
            _edge_blocks(node, place, 1, blocks)
            _edge_blocks(node, place + 1, 0, blocks)
            break
        parent_layer = node.layer
        node = _gap(node, place)
    return blocks


def _edge_blocks(node: Node, place: int, last: int, blocks: dict[Cid, bytes]) -> None:
    """Add the blocks along the rightmost (`last`) or leftmost edge below a gap."""
    child, parent_layer = _gap(node, place), node.layer
    while child is not None:
        blocks.update(_wrapped(child, parent_layer - 1))
        parent_layer = child.layer
        child = _gap(child, len(child.keys) if last else 0)


def _gap(node: Node, place: int) -> Node | None:
    """The subtree left of the key at `place` (or right of the last one)."""
    return node.left if place == 0 else node.entries[place - 1].right


def _with_gap(node: Node, place: int, child: Node | None) -> Node:
    if place == 0:
        return Node(node.layer, child, node.entries)
    return _with_entry(node, place - 1, node.entries[place - 1]._replace(right=child))


def _with_entry(node: Node, place: int, entry: Entry) -> Node:
    entries = (*node.entries[:place], entry, *node.entries[place + 1 :])
    return Node(node.layer, node.left, entries)


def _wrapped(node: Node, layer: int) -> list[tuple[Cid, bytes]]:
    """The node as it hangs at `layer`, empty nodes above it, outermost first."""
    chain = [(node.cid, node.block)]
    for _ in range(layer - node.layer):
        block = b"\xa2ae\x80al" + link(chain[0][0])
        chain.insert(0, (Cid.of(block), block))
    return chain


def _collect(node: Node, layer: int, blocks: dict[Cid, bytes], *, only_new: bool) -> None:
    # Asked before the block is made: writing a node writes all that is below it.
    children = [child for child in (node.left, *(e.right for e in node.entries)) if child]
    wanted = [child for child in children if not (only_new and child.is_written)]
    below: dict[Cid, bytes] = {}
    for child in wanted:
        _collect(child, node.layer - 1, below, only_new=only_new)
    blocks.update(_wrapped(node, layer))
    blocks.update(below)


def _encode_node(node: Node) -> bytes:
    parts = [b"\xa2ae", head(4, len(node.entries))]
    previous = b""
    for entry in node.entries:
        shared = _shared_prefix(previous, entry.key)
        suffix = entry.key[shared:]
        parts += (b"\xa4ak", head(2, len(suffix)), suffix, b"ap", head(0, shared))
        parts += (b"at", _child_link(entry.right, node.layer), b"av", link(entry.value))
        previous = entry.key
    parts += (b"al", _child_link(node.left, node.layer))
    return b"".join(parts)


def _child_link(child: Node | None, parent_layer: int) -> bytes:
    return _NULL if child is None else link(_wrapped(child, parent_layer - 1)[0][0])


def _shared_prefix(one: bytes, other: bytes) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
