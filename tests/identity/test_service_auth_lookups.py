"""What a token costs, what happens when its key cannot be had, and tokens of any shape at all."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import AuthRequired, FetchFailed, IdentityUnavailable, NotFound
from server.identity.service_auth import REFUSALS
from tests.fuzzing import fuzz
from tests.identity.builders import SERVICE, reason_for


def test_what_can_be_refused_without_a_lookup_costs_none(check, make, key, directory):
    for claims in ({"aud": "x"}, {"lxm": "x"}, {"exp": 0}, {"iss": "did:web:127.0.0.1"}):
        reason_for(check, "Bearer " + make.token(key, **claims))
    assert directory.asked == []


def test_a_new_key_is_found_by_one_more_lookup(check, make, key, directory, clock, alice):
    check("Bearer " + make.token(key))
    new = make.p256()
    directory.documents[alice] = make.document(alice, new.multikey)
    clock.pass_s(61)
    assert check("Bearer " + make.token(new)).iss == alice
    assert len(directory.asked) == 2
    assert reason_for(check, "Bearer " + make.token(key)) == "key_alg"


def test_bad_signatures_cause_one_lookup_a_minute(check, make, key, directory, clock, alice):
    check("Bearer " + make.token(key))
    clock.pass_s(61)
    for _ in range(50):
        assert reason_for(check, "Bearer " + make.token(make.k256())) == "signature"
    assert len(directory.asked) == 2


@pytest.mark.parametrize("error", [FetchFailed("down"), FetchFailed("wait", 5.0)])
def test_our_own_trouble_is_never_the_callers_fault(check, make, key, directory, alice, error):
    directory.documents[alice] = error
    with pytest.raises(IdentityUnavailable) as caught:
        check("Bearer " + make.token(key))
    assert caught.value.status == 503


def test_a_document_of_somebody_else_proves_nothing(check, make, key, directory, alice):
    directory.documents[alice] = make.document("did:plc:" + "c" * 24, key.multikey)
    with pytest.raises(IdentityUnavailable):
        check("Bearer " + make.token(key))


def test_a_bad_signature_while_the_directory_is_down_is_left_open(
    check, make, key, directory, clock, alice
):
    check("Bearer " + make.token(key))
    clock.pass_s(61)
    directory.documents[alice] = FetchFailed("down")
    for _ in range(2):
        with pytest.raises(IdentityUnavailable):
            check("Bearer " + make.token(make.k256()))
        # The account itself gets in all the while.
        assert check("Bearer " + make.token(key)).iss == alice


def test_an_account_that_is_gone_is_refused(check, make, key, directory, alice):
    directory.documents[alice] = NotFound("gone")
    assert reason_for(check, "Bearer " + make.token(key)) == "unknown_issuer"


def test_refusals_have_names_that_clients_do_not_misread():
    for name, message in REFUSALS.values():
        assert re.fullmatch(r"[\w-]+", name)
        assert name not in ("ExpiredToken", "InvalidToken")
        assert message


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "lxm", "jti"]), JSONISH, max_size=4
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit"]), JSONISH, max_size=2)


@fuzz(150)
@given(CLAIMS, HEADERS, st.text(max_size=30), st.integers(0, 600))
def test_no_token_raises_anything_but_a_refusal(check, make, key, claims, header, text, at):
    forged = make.token(key, header, **claims)
    good = make.token(key)
    changed = good[: at % len(good)] + text + good[at % len(good) + len(text) :]
    parts = make.parts(key, text.encode("utf-8", "replace"), json.dumps(claims).encode())
    for authorization in (
        text,
        "Bearer " + text,
        *(f"Bearer {t}" for t in (forged, changed, parts)),
    ):
        try:
            token = check(authorization)
        except (AuthRequired, IdentityUnavailable):
            continue
        assert token.iss == make.ALICE
        assert token.aud.startswith(SERVICE)
