"""Public keys as DID documents write them, and signatures made with them. Pure, apart from a cache.

A signing key is a text here: the multibase form (`z…`) that a did:key has after its prefix.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from atproto_crypto.consts import (  # type: ignore[import-untyped]
    P256_DID_PREFIX,
    SECP256K1_DID_PREFIX,
)
from atproto_crypto.multibase import (  # type: ignore[import-untyped]
    bytes_to_multibase,
    multibase_to_bytes,
)
from coincurve import PublicKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# Parsed keys kept. Parsing costs as much as verifying; a key takes about a kilobyte.
CACHED_KEYS = 4096

# r and s, 32 bytes each, as JWS and repo commits write them. DER is refused.
SIGNATURE_BYTES = 64

_ORDER_K256 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# A compressed key with its codec is 48 characters, an uncompressed one 90. The bound keeps base58
# cheap, whose cost grows with the square of the length.
_MULTIBASE = re.compile(r"z[1-9A-HJ-NP-Za-km-z]{40,100}")

# Types of verification methods that carry the bare point, and the codec they leave out.
_LEGACY_CODECS = {
    "EcdsaSecp256k1VerificationKey2019": SECP256K1_DID_PREFIX,
    "EcdsaSecp256r1VerificationKey2019": P256_DID_PREFIX,
}


@dataclass(frozen=True, slots=True)
class _Key:
    """A parsed key; `alg` is the JWT algorithm of its curve."""

    alg: str
    point: PublicKey | EllipticCurvePublicKey


def signing_key(method_type: str, multibase: str) -> str | None:
    """The signing key in a verification method; None if there is none that we can use.

    The result is canonical (codec and compressed point), so that two texts differ exactly when
    the keys do.
    """
    if not _MULTIBASE.fullmatch(multibase):
        return None
    try:
        data = multibase_to_bytes(multibase)
    except ValueError:
        return None
    if method_type != "Multikey":
        codec = _LEGACY_CODECS.get(method_type)
        if codec is None:
            return None
        data = codec + data
    return _canonical(data)


def key_alg(key: str) -> str | None:
    """The JWT algorithm of a signing key: ES256K or ES256; None if it is no key at all."""
    parsed = _parse(key)
    return parsed.alg if parsed else None


def verify_signature(key: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes, high-S or low-S) was made over SHA-256 of `message`."""
    parsed = _parse(key)
    if parsed is None or len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    if isinstance(parsed.point, PublicKey):
        if not (0 < r < _ORDER_K256 and 0 < s < _ORDER_K256):
            return False
        # libsecp256k1 takes only the lower of the two equally valid forms.
        return parsed.point.verify(encode_dss_signature(r, min(s, _ORDER_K256 - s)), message)
    try:
        parsed.point.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=CACHED_KEYS)
def _parse(key: str) -> _Key | None:
    if not _MULTIBASE.fullmatch(key):
        return None
    try:
        return _parse_bytes(multibase_to_bytes(key))
    except ValueError:
        return None


def _parse_bytes(data: bytes) -> _Key | None:
    codec, point = data[:2], data[2:]
    # Hybrid and other encodings, which the libraries would take, are nothing that the protocol has.
    if point[:1] not in (b"\x02", b"\x03", b"\x04"):
        return None
    if codec == SECP256K1_DID_PREFIX:
        return _Key("ES256K", PublicKey(point))
    if codec == P256_DID_PREFIX:
        return _Key("ES256", EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point))
    return None


def _canonical(data: bytes) -> str | None:
    try:
        parsed = _parse_bytes(data)
    except ValueError:
        return None
    if parsed is None:
        return None
    if isinstance(parsed.point, PublicKey):
        point = parsed.point.format(compressed=True)
    else:
        point = parsed.point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return str(bytes_to_multibase("z", data[:2] + point))
