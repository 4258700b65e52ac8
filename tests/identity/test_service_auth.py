"""Which service tokens are accepted: the table of attacks, and what a refusal says."""

import pytest

from server.identity.service_auth import MAX_HEADER_CHARS
from tests.identity.builders import LXM, NOW_S, SERVICE, reason_for


def test_a_good_token_names_the_viewer(check, make, key, alice):
    token = check("Bearer " + make.token(key))
    assert (token.iss, token.aud, token.lxm) == (alice, SERVICE, LXM)
    assert (token.exp, token.iat, token.jti) == (NOW_S + 60, NOW_S, "x")


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {"aud": SERVICE + "#bsky_fg"}),
        ({"kid": "#atproto"}, {}),
        ({"typ": ...}, {}),
        ({}, {"iat": ..., "jti": ...}),
        ({}, {"iat": NOW_S + 59}),
        ({}, {"exp": NOW_S - 59}),
        ({}, {"exp": NOW_S + 3660}),
        ({}, {"nbf": NOW_S + 59}),
        ({}, {"extra": {"a": [1]}}),
    ],
)
def test_what_honest_senders_vary_is_accepted(check, make, key, alice, header, claims):
    assert check("bearer " + make.token(key, header, **claims)).iss == alice


def test_a_p256_account_signs_with_es256(check, make, directory):
    key = make.p256()
    directory.documents[make.ALICE] = make.document(make.ALICE, key.multikey)
    assert check("Bearer " + make.token(key)).iss == make.ALICE


@pytest.mark.parametrize(
    ("reason", "header"),
    [
        ("alg", {"alg": "none"}),
        ("alg", {"alg": ...}),
        ("alg", {"alg": "HS256"}),
        ("alg", {"alg": "es256k"}),
        ("alg", {"alg": ["ES256K"]}),
        ("key_alg", {"alg": "ES256"}),
        ("typ", {"typ": "at+jwt"}),
        ("typ", {"typ": "refresh+jwt"}),
        ("typ", {"typ": "dpop+jwt"}),
        ("typ", {"typ": None}),
        ("crit", {"crit": ["b64"]}),
        ("kid", {"kid": "#atproto_labeler"}),
        ("kid", {"kid": None}),
        ("kid", {"kid": "did:plc:" + "a" * 24 + "#atproto"}),
    ],
)
def test_a_token_with_a_wrong_header_is_refused(check, make, key, reason, header):
    assert reason_for(check, "Bearer " + make.token(key, header)) == reason


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        ("audience", {"aud": "did:web:other.example.com"}),
        ("audience", {"aud": SERVICE + ".evil.com"}),
        ("audience", {"aud": SERVICE + "#bsky_fgx"}),
        ("audience", {"aud": SERVICE + "#"}),
        ("audience", {"aud": ""}),
        ("claims", {"aud": [SERVICE]}),
        ("claims", {"aud": ...}),
        ("method", {"lxm": ...}),
        ("method", {"lxm": "app.bsky.feed.getFeed"}),
        ("method", {"lxm": "*"}),
        ("claims", {"lxm": None}),
        ("claims", {"lxm": [LXM]}),
        ("claims", {"exp": ...}),
        ("claims", {"exp": None}),
        ("claims", {"exp": True}),
        ("claims", {"exp": str(NOW_S + 60)}),
        ("claims", {"exp": NOW_S + 60.5}),
        ("claims", {"exp": -1}),
        ("claims", {"exp": 10**400}),
        ("expired", {"exp": NOW_S - 60}),
        ("expired", {"exp": 0}),
        ("lifetime", {"exp": NOW_S + 3661}),
        ("lifetime", {"exp": NOW_S + 10 * 365 * 86_400}),
        ("not_yet", {"iat": NOW_S + 61}),
        ("claims", {"iat": "now"}),
        ("claims", {"iat": None}),
        ("not_yet", {"nbf": NOW_S + 61}),
        ("claims", {"nbf": False}),
        ("claims", {"jti": 5}),
        ("claims", {"jti": None}),
        ("claims", {"jti": "x" * 513}),
        ("claims", {"iss": ...}),
        ("claims", {"iss": 7}),
        ("issuer", {"iss": "alice.example.com"}),
        ("issuer", {"iss": "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}),
        ("issuer", {"iss": "did:plc:" + "a" * 24 + "#atproto"}),
        ("issuer", {"iss": "did:plc:" + "a" * 24 + "\n"}),
        ("issuer", {"iss": "did:plc:../../admin"}),
        ("issuer", {"iss": "did:web:a.example.com:path"}),
        ("issuer", {"iss": "did:web:a.example.com%3A8080"}),
        ("issuer", {"iss": "did:web:localhost%3A8080"}),
        ("issuer", {"iss": "did:web:user@a.example.com"}),
        ("issuer", {"iss": "did:web:127.0.0.1"}),
        ("issuer", {"iss": "did:web:169.254.169.254/x?"}),
        ("issuer", {"iss": "did:web:localhost"}),
        ("issuer", {"iss": ""}),
        ("unknown_issuer", {"iss": "did:plc:" + "b" * 24}),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(check, make, key, reason, claims):
    assert reason_for(check, "Bearer " + make.token(key, **claims)) == reason


def test_a_token_with_a_wrong_form_is_refused(check, make, key):
    good = make.token(key)
    head, body, signature = good.split(".")
    noncanonical = signature[:-1] + chr(ord(signature[-1]) + 1)
    for reason, authorization in (
        ("missing", None),
        ("missing", ""),
        ("scheme", "Bearer"),
        ("scheme", "Bearer "),
        ("scheme", good),
        ("scheme", "Basic " + good),
        ("scheme", "DPoP " + good),
        ("segments", f"Bearer {head}.{body}"),
        ("segments", f"Bearer {good}.{head}"),
        ("segments", f"Bearer {head}.{body}."),
        ("segments", f"Bearer .{body}.{signature}"),
        ("segments", f"Bearer  {good}"),
        ("segments", f"Bearer {good} "),
        ("segments", f"Bearer {good}\n"),
        ("segments", f"Bearer {good},Bearer {good}"),
        ("segments", f"Bearer {head}=.{body}.{signature}"),
        ("segments", f"Bearer {head}.{body}.{signature}=="),
        ("segments", f"Bearer {head}.{body}.+/{signature}"),
        ("segments", f"Bearer {head}.{body}.é{signature}"),
        ("base64", f"Bearer {head}.{body}.A"),
        ("base64", f"Bearer {head}.{body}.{noncanonical}"),
        ("too_long", f"Bearer {head}.{body}.{'A' * MAX_HEADER_CHARS}"),
    ):
        assert reason_for(check, authorization) == reason, authorization


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b"[]", b"{}"),
        (b"{}", b"null"),
        (b"{", b"{}"),
        (b"\xff", b"{}"),
        (b'{"alg":"none","alg":"ES256K"}', b"{}"),
        (b'{"alg":"ES256K"}', b'{"iss":"a","iss":"b"}'),
        (b'{"alg":"ES256K"}', b"[" * 2000),
        (b'{"alg":"ES256K"}', b'{"exp":NaN}'),
    ],
)
def test_a_token_of_improper_json_is_refused(check, make, key, header, payload):
    assert reason_for(check, "Bearer " + make.parts(key, header, payload)) == "json"


def test_signatures_that_do_not_prove_the_issuer_are_refused(check, make, key, directory):
    good = make.token(key)
    message = good.rpartition(".")[0]
    head, _, signature = good.split(".")
    other_body = make.token(key, jti="y").split(".")[1]
    long = make.b64(key.sign(message.encode()) + b"\0")
    for reason, token in (
        ("signature", make.token(make.k256())),
        ("signature", f"{head}.{other_body}.{signature}"),
        ("signature", f"{message}.{make.b64(bytes(64))}"),
        ("signature_form", f"{message}.{make.b64(key.der(message.encode()))}"),
        ("signature_form", f"{message}.{long}"),
        ("signature_form", f"{message}.{make.b64(b'')}AA"),
    ):
        assert reason_for(check, "Bearer " + token) == reason


def test_a_high_s_signature_is_accepted(check, make, key, alice):
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    message = make.token(key).rpartition(".")[0]
    r, s = key.numbers(message.encode())
    for form in (s, order - s):
        signature = make.b64(r.to_bytes(32) + form.to_bytes(32))
        assert check(f"Bearer {message}.{signature}").iss == alice


def test_an_account_without_a_key_cannot_sign(check, make, key, directory):
    directory.documents[make.ALICE] = make.document(verificationMethod=[])
    assert reason_for(check, "Bearer " + make.token(key)) == "no_key"
