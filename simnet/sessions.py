"""Login tokens of a PDS: made, checked, nothing stored. Not the tokens that services see."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from simnet.http_server import Request
from simnet.keys import base64url
from simnet.xrpc import XrpcError

ACCESS_SECONDS = 2 * 3600
REFRESH_SECONDS = 90 * 24 * 3600


class Sessions:
    """Signs with one secret; a token names its account and its kind."""

    def __init__(self, secret: str, audience: str) -> None:
        self._secret = secret.encode()
        self._audience = audience

    def tokens(self, did: str) -> dict[str, str]:
        """A new access and refresh token."""
        return {
            "accessJwt": self._token(did, "access", "at+jwt", ACCESS_SECONDS),
            "refreshJwt": self._token(did, "refresh", "refresh+jwt", REFRESH_SECONDS),
        }

    def did_of(self, request: Request, kind: str = "access") -> str:
        """Who is asking; raises the XrpcError that the official server answers with."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise XrpcError(401, "AuthMissing", "Authentication Required")
        unsigned, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature, self._sign(unsigned)):
            raise XrpcError(400, "InvalidToken", "Token could not be verified")
        payload = _payload(unsigned)
        if payload["scope"] != f"com.atproto.{kind}":
            raise XrpcError(400, "InvalidToken", "Bad token scope")
        if payload["exp"] < time.time():
            raise XrpcError(400, "ExpiredToken", "Token has expired")
        return str(payload["sub"])

    def _token(self, did: str, kind: str, typ: str, seconds: int) -> str:
        now = int(time.time())
        header = {"typ": typ, "alg": "HS256"}
        payload = {
            "scope": f"com.atproto.{kind}",
            "sub": did,
            "aud": self._audience,
            "iat": now,
            "exp": now + seconds,
        }
        unsigned = ".".join(base64url(json.dumps(part).encode()) for part in (header, payload))
        return f"{unsigned}.{self._sign(unsigned)}"

    def _sign(self, unsigned: str) -> str:
        return base64url(hmac.new(self._secret, unsigned.encode(), hashlib.sha256).digest())


def _payload(unsigned: str) -> dict[str, Any]:
    text = unsigned.partition(".")[2]
    try:
        payload = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as broken:
        raise XrpcError(400, "InvalidToken", "Token could not be verified") from broken
    return dict(payload)
