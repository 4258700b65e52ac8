"""The tree against published roots, and against a slow builder that knows only the definition."""

import hashlib
import random

import libipld
import pytest

from simnet import mst
from simnet.dag_cbor import Cid, encode

LEAF = Cid.parse("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454")


def slow_layer(key):
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def slow_root(pairs):
    """The root of a sorted list of (key, value), layer by layer from the definition."""
    if not pairs:
        return libipld.encode_cid(bytes(Cid.of(encode({"e": [], "l": None}))))
    return slow_node(pairs, max(slow_layer(key) for key, _ in pairs)).text


def slow_node(pairs, layer):
    groups, own = [[]], []
    for key, value in pairs:
        if slow_layer(key) == layer:
            own.append((key, value))
            groups.append([])
        else:
            groups[-1].append((key, value))
    links = [slow_node(group, layer - 1) if group else None for group in groups]
    entries, before = [], b""
    for (key, value), right in zip(own, links[1:], strict=True):
        shared = next(
            (i for i in range(len(key)) if key[: i + 1] != before[: i + 1]),
            len(key),
        )
        entries.append({"p": shared, "k": key[shared:], "v": value, "t": right})
        before = key
    return Cid.of(encode({"l": links[0], "e": entries}))


def tree_of(*keys):
    root = None
    for key in keys:
        root = mst.insert(root, key.encode(), LEAF)
    return root


@pytest.mark.parametrize(
    ("suffixes", "root"),
    [
        ((), "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
        (("3fo2j",), "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu"),
        (("3fx2j",), "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai"),
        (
            ("3fp2j", "3fr2j", "3fs2j", "3ft2j", "4fc2j"),
            "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m",
        ),
    ],
)
def test_roots_are_those_that_the_protocol_publishes(suffixes, root):
    keys = [f"com.example.record/3jqfcqzm{suffix}" for suffix in suffixes]
    assert mst.root_cid(tree_of(*keys)).text == root


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_changes_ends_at_the_root_of_the_definition(seed):
    rng = random.Random(seed)  # noqa: S311
    truth, root = {}, None
    for _ in range(400):
        key = f"app.bsky.feed.post/{rng.randrange(150):03d}".encode()
        value = Cid.of(rng.randbytes(8))
        if key not in truth:
            root = mst.insert(root, key, value)
        elif rng.random() < 0.5:
            root = mst.replace(root, key, value)
        else:
            root, value = mst.remove(root, key), None
        truth[key] = value
        truth = {key: value for key, value in truth.items() if value is not None}
    assert list(mst.entries_of(root)) == sorted(truth.items())
    assert mst.root_cid(root).text == slow_root(sorted(truth.items()))
    for key, value in truth.items():
        assert mst.lookup(root, key) == value
        root = mst.remove(root, key)
    assert mst.root_cid(root) == mst.EMPTY_CID


def test_an_old_root_stays_readable_after_changes():
    old = tree_of("a/1", "a/2", "a/3")
    before = mst.all_blocks(old)
    mst.insert(old, b"a/4", LEAF)
    mst.remove(old, b"a/2")
    assert mst.all_blocks(old) == before


def test_new_blocks_and_old_blocks_together_are_the_whole_tree():
    known, root = {}, None
    for number in range(300):
        root = mst.insert(root, f"c/{number * 7919 % 1000:04d}".encode(), LEAF)
        known.update(mst.new_blocks(root))
        assert mst.all_blocks(root).keys() <= known.keys()
    assert mst.new_blocks(root) == {}


def test_the_proof_of_a_deleted_key_holds_both_neighbours():
    keys = sorted(f"c/{number:04d}" for number in range(200))
    root = mst.remove(tree_of(*keys), b"c/0100")
    proof = mst.proof_blocks(root, b"c/0100")
    assert mst.root_cid(root) in proof
    assert proof.items() <= mst.all_blocks(root).items()
    nodes = [libipld.decode_dag_cbor(block) for block in proof.values()]
    # A neighbour is found where its suffix is, whatever prefix it shares.
    suffixes = [entry["k"] for node in nodes for entry in node["e"]]
    assert any(suffix.endswith(b"99") or suffix == b"9" for suffix in suffixes)
    assert any(suffix.endswith(b"1") for suffix in suffixes)
