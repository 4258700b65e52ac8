"""Who asks: the verified issuer of the service token, and nothing else; and not too often."""

import time

from flask import Request

from server.core.errors import AuthRequired
from server.identity.cache import IdentityCache
from server.identity.service_auth import ServiceToken, verify
from server.web.limits import ViewerLimits


def requester(
    request: Request,
    method: str,
    service_did: str,
    identities: IdentityCache,
    limits: ViewerLimits,
) -> ServiceToken:
    """The token of a request for an XRPC method.

    Raises AuthRequired, IdentityUnavailable or TooManyRequests.
    """
    now_us = time.time_ns() // 1000
    headers = request.headers.getlist("Authorization")
    if len(headers) > 1:
        raise AuthRequired("more than one Authorization header", "scheme")
    token = verify(
        headers[0] if headers else None,
        lxm=method,
        service_did=service_did,
        cache=identities,
        now_us=now_us,
    )
    limits.count(token.iss, now_us)
    return token
