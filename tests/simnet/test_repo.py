"""Commits, CARs, keys and TIDs, read back with other people's code."""

import coincurve
import libipld
import pytest
from atproto import CAR, get_did_key, verify_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet import Write, key_from_seed
from simnet.dag_cbor import Cid, encode, from_json
from simnet.repo import Repo
from simnet.tid import TidClock, tid_at, time_us_of

NOW_US = 1_760_000_000_000_000
POST = "app.bsky.feed.post"


def repo_with(posts, curve="k256"):
    repo = Repo("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", key_from_seed("seed", curve), clock_id=3)
    for number in range(posts):
        repo.commit([Write("create", POST, None, {"text": str(number)})], NOW_US + number)
    return repo


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_the_commit_is_signed_by_the_key_of_the_document(curve):
    repo = repo_with(1, curve)
    commit = libipld.decode_dag_cbor(repo.head.block)
    signature = commit.pop("sig")
    did_key = get_did_key("Multikey", repo.key.multibase)
    assert (repo.key.alg == "ES256K") == did_key.startswith("did:key:zQ3s")
    assert verify_signature(did_key, encode({**commit, "data": Cid(commit["data"])}), signature)
    assert not verify_signature(did_key, b"something else", signature)


def test_signatures_are_compact_and_low_s():
    key = key_from_seed("any")
    half = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
    for number in range(50):
        signature = key.sign(number.to_bytes(2, "big"))
        assert len(signature) == 64
        assert int.from_bytes(signature[32:], "big") <= half
    assert coincurve.PublicKey(key.public_bytes)


def test_an_export_holds_every_record_and_the_tree_to_find_it():
    repo = repo_with(120)
    car = CAR.from_bytes(repo.export())
    assert str(car.root) == repo.head.cid.text
    blocks = {str(cid): block for cid, block in car.blocks.items()}
    found = dict(walk(blocks, libipld.encode_cid(blocks[repo.head.cid.text]["data"])))
    assert found == {f"{POST}/{s.ref.rkey}": s.ref.cid for s in repo.records()}
    assert all(cid in blocks for cid in found.values())


def walk(blocks, cid):
    node = blocks[cid]
    if node["l"]:
        yield from walk(blocks, libipld.encode_cid(node["l"]))
    key = b""
    for entry in node["e"]:
        key = key[: entry["p"]] + entry["k"]
        yield key.decode(), libipld.encode_cid(entry["v"])
        if entry["t"]:
            yield from walk(blocks, libipld.encode_cid(entry["t"]))


def test_delete_and_create_of_one_path_fit_in_one_commit():
    repo = repo_with(0)
    repo.commit([Write("create", POST, "x", {"text": "old"})], NOW_US)
    commit, refs = repo.commit(
        [Write("delete", POST, "x"), Write("create", POST, "x", {"text": "new"})], NOW_US
    )
    assert [op.action for op in commit.ops] == ["delete", "create"]
    assert repo.get(POST, "x").value["text"] == "new"
    assert refs[0].cid == ""
    assert refs[1].cid == repo.get(POST, "x").ref.cid


def test_impossible_writes_are_refused():
    repo = repo_with(0)
    repo.commit([Write("create", POST, "x", {"text": ""})], NOW_US)
    for write in (
        Write("create", POST, "x", {}),
        Write("update", POST, "y", {}),
        Write("delete", POST, "y"),
    ):
        with pytest.raises(ValueError, match=POST):
            repo.commit([write], NOW_US)


def test_revs_rise_when_time_stands_still_or_runs_back():
    repo = repo_with(0)
    revs = [repo.commit([], now_us)[0].rev for now_us in (NOW_US, NOW_US, NOW_US - 10)]
    assert revs == sorted(set(revs))


def test_a_tid_tells_its_time():
    assert time_us_of("3jzfcijpj2z2a") == 1_688_137_381_887_007
    assert tid_at(1_688_137_381_887_007, 6) == "3jzfcijpj2z2a"
    clock = TidClock(1)
    assert clock.next(5) < clock.next(5) < clock.next(1)


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@settings(max_examples=50, deadline=None)
@given(values)
def test_our_dag_cbor_is_libiplds(value):
    assert encode(value) == libipld.encode_dag_cbor(value)


def test_links_and_bytes_of_json_become_cbor_and_back():
    cid = Cid.of(b"block")
    read = libipld.decode_dag_cbor(
        encode(from_json({"a": {"$link": cid.text}, "b": {"$bytes": "AQI"}}))
    )
    assert read == {"a": bytes(cid), "b": b"\x01\x02"}
    assert libipld.encode_cid(read["a"]) == cid.text
