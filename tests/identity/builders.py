"""Keys, tokens and DID documents for the identity tests."""

import base64
import json

import pytest
from atproto_crypto.consts import P256_DID_PREFIX, SECP256K1_DID_PREFIX
from atproto_crypto.multibase import bytes_to_multibase
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.core.errors import AuthRequired
from server.identity.service_auth import REFUSALS

SERVICE = "did:web:feed.example.com"
LXM = "app.bsky.feed.getFeedSkeleton"
ALICE = "did:plc:" + "a" * 24
NOW_S = 1_800_000_000


class Key:
    """A private key, and its public half in the forms that documents have."""

    def __init__(self, curve: ec.EllipticCurve, alg: str, codec: bytes) -> None:
        self.private = ec.generate_private_key(curve)
        self.alg = alg
        self.codec = codec

    def point(self, compressed: bool = True) -> bytes:
        form = PublicFormat.CompressedPoint if compressed else PublicFormat.UncompressedPoint
        return self.private.public_key().public_bytes(Encoding.X962, form)

    @property
    def multikey(self) -> str:
        return bytes_to_multibase("z", self.codec + self.point())

    def der(self, message: bytes) -> bytes:
        return self.private.sign(message, ec.ECDSA(SHA256()))

    def numbers(self, message: bytes) -> tuple[int, int]:
        return decode_dss_signature(self.der(message))

    def sign(self, message: bytes) -> bytes:
        r, s = self.numbers(message)
        return r.to_bytes(32) + s.to_bytes(32)


def k256() -> Key:
    return Key(ec.SECP256K1(), "ES256K", SECP256K1_DID_PREFIX)


def p256() -> Key:
    return Key(ec.SECP256R1(), "ES256", P256_DID_PREFIX)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_token(key: Key, header: dict | None = None, **claims: object) -> str:
    """A good token of Alice's, but for what is given; a value of ... leaves the claim out."""
    head = {"alg": key.alg, "typ": "JWT"} | (header or {})
    body = {"iss": ALICE, "aud": SERVICE, "lxm": LXM, "iat": NOW_S, "exp": NOW_S + 60, "jti": "x"}
    return sign_parts(
        key,
        *(
            json.dumps({name: value for name, value in part.items() if value is not ...}).encode()
            for part in (head, body | claims)
        ),
    )


def sign_parts(key: Key, header: bytes, payload: bytes) -> str:
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(key.sign(message.encode()))}"


def make_document(did: str = ALICE, multikey: str | None = None, **changes: object) -> dict:
    document = {
        "id": did,
        "alsoKnownAs": ["at://alice.example.com"],
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": multikey,
            }
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://pds.example.com",
            }
        ],
    }
    return document | changes


def numbered(number: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return (
        "did:plc:"
        + "b" * 21
        + letters[number // 676]
        + letters[number // 26 % 26]
        + letters[number % 26]
    )


def reason_for(check, authorization) -> str:
    with pytest.raises(AuthRequired) as caught:
        check(authorization)
    error = caught.value
    assert error.status == 401
    assert (error.name, error.message) == REFUSALS[error.reason]
    return error.reason
