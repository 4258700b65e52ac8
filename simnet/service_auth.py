"""The tokens a PDS signs for its accounts, to be shown to other services. Verifies none."""

import secrets
import time
from typing import Any

LIFETIME_SECONDS = 60

Fields = dict[str, Any]


def service_claims(did: str, alg: str, aud: str, lxm: str) -> tuple[Fields, Fields]:
    """Header and payload as the official PDS writes them, not yet signed."""
    now = int(time.time())
    header = {"typ": "JWT", "alg": alg}
    payload = {
        "iat": now,
        "iss": did,
        "aud": aud,
        "exp": now + LIFETIME_SECONDS,
        "lxm": lxm,
        "jti": secrets.token_hex(16),
    }
    return header, payload
