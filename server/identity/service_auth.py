"""Service tokens: who asks, proven by a JWT that the asker's own PDS signed with their key.

Everything that can be checked without a look-up is checked first, the cheap before the dear. Every
default is spelled out, because the libraries at hand leave several of these checks to the caller.
The viewer is the verified issuer and nothing else; reuse of a token is not our concern here, since
the AppView passes one token on several times.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from server.core.errors import AuthRequired, FetchFailed, IdentityUnavailable, NotFound
from server.core.syntax import is_did
from server.identity.cache import IdentityCache
from server.identity.did import Identity
from server.identity.keys import SIGNATURE_BYTES, key_alg, verify_signature
from server.identity.strict_json import parse_json

# Characters of the whole header. Real tokens have about 400.
MAX_HEADER_CHARS = 4096

# Seconds by which a sender's clock may differ from ours.
SKEW_S = 60

# Seconds that a token may have before it. Senders use 60; the reference PDS grants an hour at most.
MAX_LIFETIME_S = 3600

# The service of our DID document, whose name newer senders add to the audience.
SERVICE_FRAGMENT = "#bsky_fg"

# The only key that signs for an account.
KEY_ID = "#atproto"

# Beyond this a number of seconds is no time, and not exact in other people's JSON either.
MAX_SECONDS = 2**53

# An identifier of a token that is longer is a way to fill somebody's memory.
MAX_JTI_CHARS = 512

# Different first parts of tokens that are remembered: few, as honest senders have. A hostile one
# can make a hundred kilobytes of each.
CACHED_HEADERS = 16

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")

# Reason (for logs and metrics) -> XRPC error name and message (for the caller). The names are those
# of the reference implementation where it has one. Never ExpiredToken or InvalidToken: clients take
# these for trouble with their own session. No message repeats anything from the token.
REFUSALS: Mapping[str, tuple[str, str]] = {
    "missing": ("AuthenticationRequired", "this feed is personal: sign in to see it"),
    "scheme": ("AuthenticationRequired", "the Authorization header must be Bearer and a token"),
    "too_long": ("BadJwt", f"the Authorization header is longer than {MAX_HEADER_CHARS}"),
    "segments": ("BadJwt", "a token has three segments of base64url without padding"),
    "base64": ("BadJwt", "a segment of the token is not base64url"),
    "json": ("BadJwt", "header and payload of the token must be JSON objects, each key once"),
    "typ": ("BadJwtType", "the token is not a service token: its typ must be JWT"),
    "alg": ("BadJwt", "the token's alg must be ES256K or ES256"),
    "crit": ("BadJwt", "the token has a crit header, none of which is supported"),
    "kid": ("BadJwt", f"the token's kid must be {KEY_ID}, or absent"),
    "claims": ("BadJwt", "a claim of the token is missing or of the wrong type"),
    "expired": ("JwtExpired", "the token has expired"),
    "lifetime": ("BadJwt", f"the token is valid for more than {MAX_LIFETIME_S} s from now"),
    "not_yet": ("BadJwt", "the token was issued in the future"),
    "audience": ("BadJwtAudience", "the token is for another service: its aud is not our DID"),
    "method": ("BadJwtLexiconMethod", "the token is for another method: its lxm is not this one"),
    "issuer": (
        "BadJwtIssuer",
        "the token's iss must be the plain did:plc or did:web of an account",
    ),
    "signature_form": ("BadJwtSignature", f"a signature has {SIGNATURE_BYTES} bytes: r and s"),
    "unknown_issuer": ("BadJwtIssuer", "the account that issued the token does not exist"),
    "no_key": ("BadJwtIssuer", "the account that issued the token has no usable signing key"),
    "key_alg": ("BadJwtSignature", "the token's alg is not that of the account's signing key"),
    "signature": ("BadJwtSignature", "the token was not signed with the account's signing key"),
}


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A verified token: `iss` is the account that asks. Times in seconds since 1970."""

    iss: str
    aud: str
    lxm: str
    exp: int
    iat: int | None
    jti: str | None


@dataclass(frozen=True, slots=True)
class _Signed:
    """The parts of a token that the signature is about, and the signature."""

    alg: str
    message: bytes
    signature: bytes


def verify(
    authorization: str | None,
    *,
    lxm: str,
    service_did: str,
    cache: IdentityCache,
    now_us: int,
) -> ServiceToken:
    """The token in an Authorization header, if it proves who asks for the method `lxm` of ours.

    Raises AuthRequired with a reason of REFUSALS, or IdentityUnavailable when the issuer's key
    could not be looked up; and what the database raises, nothing else.
    """
    header, payload, signed = _parse(authorization)
    _check_header(header)
    token = _read_claims(payload)
    _check_times(token, payload, now_us // 1_000_000)
    if token.aud not in (service_did, service_did + SERVICE_FRAGMENT):
        raise _refusal("audience")
    if token.lxm != lxm:
        raise _refusal("method")
    if not is_did(token.iss):
        raise _refusal("issuer")
    if len(signed.signature) != SIGNATURE_BYTES:
        raise _refusal("signature_form")
    _check_signature(token.iss, signed, cache)
    return token


def _refusal(reason: str) -> AuthRequired:
    name, message = REFUSALS[reason]
    return AuthRequired(message, reason, name)


def _parse(authorization: str | None) -> tuple[dict[str, object], dict[str, object], _Signed]:
    """Header, payload and the rest of a token; only its form has been checked."""
    if not authorization:
        raise _refusal("missing")
    if len(authorization) > MAX_HEADER_CHARS:
        raise _refusal("too_long")
    # A header that was sent twice arrives joined by a comma, which is in no token.
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise _refusal("scheme")
    segments = text.split(".")
    if len(segments) != 3 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise _refusal("segments")
    payload, signature = _decode(segments[1]), _decode(segments[2])
    alg_and_more = _header(segments[0])
    message = text.rpartition(".")[0].encode("ascii")
    signed = _Signed(str(alg_and_more.get("alg")), message, signature)
    return alg_and_more, _json_object(payload), signed


@lru_cache(maxsize=CACHED_HEADERS)
def _header(segment: str) -> dict[str, object]:
    """The first part of a token. Senders have one or two of them, for all their tokens."""
    return _json_object(_decode(segment))


def _decode(segment: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise _refusal("base64") from None
    # The decoder ignores unused bits at the end: two texts for the same bytes.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode("ascii"):
        raise _refusal("base64")
    return data


def _json_object(data: bytes) -> dict[str, object]:
    try:
        value = parse_json(data, unique_keys=True)
    except ValueError:
        raise _refusal("json") from None
    if not isinstance(value, dict):
        raise _refusal("json")
    return value


def _check_header(header: dict[str, object]) -> None:
    typ = header.get("typ", "JWT")
    # Session and DPoP tokens say at+jwt, refresh+jwt or dpop+jwt here.
    if not isinstance(typ, str) or typ.upper() != "JWT":
        raise _refusal("typ")
    if header.get("alg") not in ("ES256K", "ES256"):
        raise _refusal("alg")
    if "crit" in header:
        raise _refusal("crit")
    if header.get("kid", KEY_ID) != KEY_ID:
        raise _refusal("kid")


def _read_claims(payload: dict[str, object]) -> ServiceToken:
    iss, aud, jti = payload.get("iss"), payload.get("aud"), payload.get("jti")
    # Older senders leave lxm out; such a token would serve for every method.
    lxm = payload.get("lxm", "")
    if not (isinstance(iss, str) and isinstance(aud, str) and isinstance(lxm, str)):
        raise _refusal("claims")
    if "jti" in payload and not (isinstance(jti, str) and len(jti) <= MAX_JTI_CHARS):
        raise _refusal("claims")
    exp, iat = _seconds(payload, "exp"), _seconds(payload, "iat")
    if exp is None:
        raise _refusal("claims")
    return ServiceToken(iss, aud, lxm, exp, iat, str(jti) if "jti" in payload else None)


def _seconds(payload: dict[str, object], name: str) -> int | None:
    """A time among the claims; None if it is not there."""
    if name not in payload:
        return None
    value = payload[name]
    # A bool is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:
        raise _refusal("claims")
    return value


def _check_times(token: ServiceToken, payload: dict[str, object], now_s: int) -> None:
    if token.exp <= now_s - SKEW_S:
        raise _refusal("expired")
    if token.exp > now_s + MAX_LIFETIME_S + SKEW_S:
        raise _refusal("lifetime")
    for starts in (token.iat, _seconds(payload, "nbf")):
        if starts is not None and starts > now_s + SKEW_S:
            raise _refusal("not_yet")


def _check_signature(iss: str, signed: _Signed, cache: IdentityCache) -> None:
    tried = _look_up(cache.get, iss)
    reason = _why_not_signed_by(tried, signed)
    if reason is None:
        return
    # The account may have a new key of which we have not heard.
    fresh = _look_up(cache.refresh, iss)
    if fresh.signing_key != tried.signing_key:
        reason = _why_not_signed_by(fresh, signed)
    if reason is not None:
        raise _refusal(reason)


def _look_up(ask: Callable[[str], Identity], iss: str) -> Identity:
    try:
        return ask(iss)
    except NotFound:
        raise _refusal("unknown_issuer") from None
    except FetchFailed as error:
        raise IdentityUnavailable(
            "the key of the account that issued the token could not be looked up"
        ) from error


def _why_not_signed_by(identity: Identity, signed: _Signed) -> str | None:
    """The reason to refuse the signature; None if it is the account's."""
    key = identity.signing_key
    if key is None:
        return "no_key"
    if key_alg(key) != signed.alg:
        return "key_alg"
    return None if verify_signature(key, signed.message, signed.signature) else "signature"
