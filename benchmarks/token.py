"""What it costs to verify a service token when the issuer's key is in memory.

Ours (every check of identity/service_auth.py, with the identity cache) and the SDK's `verify_jwt`
(which leaves several of them out), for both curves, on the same tokens. The contenders take turns,
so that whatever else the machine does meets them all alike; the median round counts. CPU time of
this thread, in microseconds a token.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from atproto import verify_jwt

from server.identity.cache import IdentityCache
from server.identity.did import Identity
from server.identity.service_auth import verify
from simnet import key_from_seed
from simnet.keys import SigningKey, sign_jwt
from simnet.service_auth import service_claims

SERVICE = "did:web:feeds.example.com"
LXM = "app.bsky.feed.getFeedSkeleton"
VIEWER = "did:plc:" + "a" * 24
# A page may cost so much for the proof of who asks.
PROMISED_US = 100.0


class OneKey:
    """A directory and a store in which one account is."""

    def __init__(self, key: SigningKey) -> None:
        self.identity = Identity(VIEWER, None, None, key.multibase)

    def resolve(self, _did: str, _deadline_s: float) -> Identity:
        """The one."""
        return self.identity

    def load_identity(self, _did: str) -> None:
        """It is in no table."""

    def save_identity(self, *_row: object) -> None:
        """Nothing is kept."""


def main() -> None:
    """Run, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--tokens", type=int, default=200, help="verified in each round")
    options = parser.parse_args()
    for curve in ("k256", "p256"):
        _compare(curve, options.rounds, options.tokens)


def _compare(curve: str, rounds: int, count: int) -> None:
    key = key_from_seed("benchmark", curve)
    tokens = [sign_jwt(*service_claims(VIEWER, key.alg, SERVICE, LXM), key) for _ in range(count)]
    one, did_key = OneKey(key), f"did:key:{key.multibase}"
    cache = IdentityCache(one, one, lambda: time.time_ns() // 1000)  # type: ignore[arg-type]

    def ours(token: str) -> str:
        now_us = time.time_ns() // 1000
        header = f"Bearer {token}"
        return verify(header, lxm=LXM, service_did=SERVICE, cache=cache, now_us=now_us).iss

    def sdk(token: str) -> str:
        return str(verify_jwt(token, lambda _iss, _force: did_key, SERVICE).iss)

    taken: dict[str, list[float]] = {"ours": [], "sdk": []}
    for _ in range(rounds):
        for name, contender in (("ours", ours), ("sdk", sdk)):
            taken[name].append(_time_us(contender, tokens))
    mine, theirs = statistics.median(taken["ours"]), statistics.median(taken["sdk"])
    print(
        f"{key.alg:6} ours {mine:6.1f} us, atproto's verify_jwt {theirs:6.1f} us,"
        f" ratio {theirs / mine:.1f}; {rounds} rounds of {count} tokens"
    )
    if curve == "k256":
        print(f"       promised for {key.alg}: under {PROMISED_US:.0f} us: {mine < PROMISED_US}")


def _time_us(contender: Callable[[str], str], tokens: list[str]) -> float:
    began = time.thread_time_ns()
    for token in tokens:
        assert contender(token) == VIEWER
    return (time.thread_time_ns() - began) / 1000 / len(tokens)


if __name__ == "__main__":
    main()
