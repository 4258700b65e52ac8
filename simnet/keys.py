"""Signing keys of both curves, and the tokens signed with them. Knows no account."""

import base64
import hashlib
import json
from typing import Any, Protocol

import coincurve
import libipld
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class _Omit:
    def __repr__(self) -> str:
        return "OMIT"


# Stands for a token field that is to be left out.
OMIT = _Omit()


class SigningKey(Protocol):
    """What accounts sign commits and tokens with."""

    alg: str

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256 in the 64 byte low-S form; the same message gives the same bytes."""

    @property
    def multibase(self) -> str:
        """The public key as a DID document writes it."""


class K256Key:
    """secp256k1, the curve of nearly every account."""

    alg = "ES256K"

    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)

    def sign(self, message: bytes) -> bytes:
        """See SigningKey."""
        digest = hashlib.sha256(message).digest()
        return self._key.sign_recoverable(digest, hasher=None)[:64]

    @property
    def public_bytes(self) -> bytes:
        """The compressed point."""
        return self._key.public_key.format(compressed=True)

    @property
    def multibase(self) -> str:
        """See SigningKey."""
        return _base58(b"\xe7\x01" + self.public_bytes)


class P256Key:
    """NIST P-256, which the protocol allows as well."""

    alg = "ES256"

    def __init__(self, secret: bytes) -> None:
        number = int.from_bytes(secret, "big") % (_P256_ORDER - 1) + 1
        self._key = ec.derive_private_key(number, ec.SECP256R1())

    def sign(self, message: bytes) -> bytes:
        """See SigningKey."""
        scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        r, s = decode_dss_signature(self._key.sign(message, scheme))
        return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")

    @property
    def public_bytes(self) -> bytes:
        """The compressed point."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @property
    def multibase(self) -> str:
        """See SigningKey."""
        return _base58(b"\x80\x24" + self.public_bytes)


_CURVES: dict[str, type[K256Key] | type[P256Key]] = {"k256": K256Key, "p256": P256Key}


def key_from_seed(seed: str, curve: str = "k256") -> SigningKey:
    """The key that belongs to this text, always the same one."""
    return _CURVES[curve](hashlib.sha256(seed.encode()).digest())


def sign_jwt(header: dict[str, Any], payload: dict[str, Any], key: SigningKey) -> str:
    """A compact JWT; fields that are OMIT are left out."""
    unsigned = f"{_segment(header)}.{_segment(payload)}"
    return f"{unsigned}.{base64url(key.sign(unsigned.encode()))}"


def base64url(raw: bytes) -> str:
    """The URL alphabet, no padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _segment(fields: dict[str, Any]) -> str:
    kept = {name: value for name, value in fields.items() if value is not OMIT}
    return base64url(json.dumps(kept, separators=(",", ":")).encode())


def _base58(raw: bytes) -> str:
    return str(libipld.encode_multibase("z", raw))
