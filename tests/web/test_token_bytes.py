"""Tokens whose bytes are not what they should be: other signatures, improper JSON."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.web.conftest import ON_SQLITE, refused, target

pytestmark = [ON_SQLITE, pytest.mark.attack("tokens")]


def signed_otherwise(token, change):
    """The token with another signature: `change` makes it of the bytes of the true one."""
    message, _, signature = token.rpartition(".")
    changed = change(base64.urlsafe_b64decode(signature + "=="))
    return f"{message}.{base64.urlsafe_b64encode(changed).rstrip(b'=').decode()}"


def der(signature):
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return encode_dss_signature(r, s)


@pytest.mark.parametrize(
    "change",
    [
        der,
        lambda signature: signature + b"\0",
        lambda signature: signature[:63],
        lambda signature: signature * 2,
        lambda signature: bytes(64),
        lambda signature: b"\xff" * 64,
        lambda signature: signature[32:] + signature[:32],
        lambda signature: bytes(32) + signature[32:],
        lambda signature: signature[:32] + bytes(32),
        lambda signature: bytes((signature[0] ^ 1,)) + signature[1:],
    ],
)
def test_other_signatures_are_refused(site, change):
    token = signed_otherwise(site.token(), change)
    assert refused(site.get(target(site), Authorization=token)) == "BadJwtSignature"


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"alg":"ES256K","alg":"ES256K"}', None),
        (b'["ES256K"]', None),
        (b"null", None),
        (b"\xff\xfe{}", None),
        (b'{"alg":' + b"[" * 1000, None),
        (None, b'{"iss":"a","iss":"b"}'),
        (None, b"[" * 1500),
        (None, b'{"exp":NaN}'),
        (None, b"{}" * 2),
        (None, b'"' + b"\\u0000" * 50 + b'"'),
    ],
)
def test_improper_json_is_refused(site, header, payload):
    parts = [part.encode() for part in site.token().removeprefix("Bearer ").split(".")]
    for place, data in enumerate((header, payload)):
        if data is not None:
            parts[place] = base64.urlsafe_b64encode(data).rstrip(b"=")
    text = "Bearer " + b".".join(parts).decode()
    assert refused(site.get(target(site), Authorization=text)) == "BadJwt"
