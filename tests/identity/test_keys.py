"""Keys as documents write them, and signatures."""

import pytest
from atproto_crypto.multibase import bytes_to_multibase
from hypothesis import given
from hypothesis import strategies as st

from server.identity.keys import key_alg, signing_key, verify_signature
from tests.fuzzing import fuzz

N_K256 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
N_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CURVES = [("k256", N_K256), ("p256", N_P256)]


@pytest.mark.parametrize(("curve", "order"), CURVES)
def test_both_forms_of_a_signature_are_accepted(make, curve, order):
    key = getattr(make, curve)()
    r, s = key.numbers(b"message")
    for form in (s, order - s):
        signature = r.to_bytes(32) + form.to_bytes(32)
        assert verify_signature(key.multikey, b"message", signature)
        assert not verify_signature(key.multikey, b"another", signature)


@pytest.mark.parametrize(("curve", "order"), CURVES)
def test_a_signature_that_is_not_64_bytes_of_r_and_s_is_refused(make, curve, order):
    key = getattr(make, curve)()
    good = key.sign(b"m")
    r, s = good[:32], good[32:]
    for bad in (
        b"",
        good[:-1],
        good + b"\0",
        key.der(b"m"),
        bytes(64),
        bytes(32) + s,
        r + bytes(32),
        b"\xff" * 64,
        r + order.to_bytes(32),
        order.to_bytes(32) + s,
    ):
        assert not verify_signature(key.multikey, b"m", bad)


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_key_of_somebody_else_does_not_verify(make, curve):
    key, other = getattr(make, curve)(), getattr(make, curve)()
    assert not verify_signature(other.multikey, b"m", key.sign(b"m"))


def test_the_curve_is_that_of_the_codec(make):
    assert key_alg(make.k256().multikey) == "ES256K"
    assert key_alg(make.p256().multikey) == "ES256"


@pytest.mark.parametrize(
    ("curve", "kind"),
    [
        ("k256", "EcdsaSecp256k1VerificationKey2019"),
        ("p256", "EcdsaSecp256r1VerificationKey2019"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_legacy_methods_give_the_same_key_as_multikey(make, curve, kind, compressed):
    key = getattr(make, curve)()
    bare = bytes_to_multibase("z", key.point(compressed))
    assert signing_key(kind, bare) == key.multikey
    assert signing_key("Multikey", key.multikey) == key.multikey


def test_what_is_no_key_is_none(make):
    key = make.k256()
    ed25519 = bytes_to_multibase("z", b"\xed\x01" + bytes(32))
    off_curve = bytes_to_multibase("z", b"\xe7\x01\x02" + b"\xff" * 32)
    hybrid = bytes_to_multibase("z", b"\xe7\x01\x06" + key.point(compressed=False)[1:])
    for text in ("", "z", "f00", key.multikey[1:], key.multikey + "1" * 99, "zOIl0" * 10, "é" * 48):
        assert signing_key("Multikey", text) is None
        assert key_alg(text) is None
    for text in (ed25519, off_curve, hybrid):
        assert signing_key("Multikey", text) is None
        assert key_alg(text) is None
        assert not verify_signature(text, b"m", key.sign(b"m"))
    assert signing_key("Ed25519VerificationKey2018", key.multikey) is None


@fuzz(100)
@given(st.text(max_size=120), st.binary(max_size=70))
def test_odd_keys_and_signatures_are_refused_and_raise_nothing(key, signature):
    for text in (key, "z" + key, bytes_to_multibase("z", b"\xe7\x01" + signature)):
        assert not verify_signature(text, b"m", signature)
        signing_key("Multikey", text)
        signing_key("EcdsaSecp256k1VerificationKey2019", text)
