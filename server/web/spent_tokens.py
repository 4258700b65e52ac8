"""Tokens that have done their work: one that is sent again does it no second time.

The memory is of one process and bounded, and a token without an identifier cannot be recognised. So
this spares work; that nothing goes wrong with a token sent twice is the business of what it starts.
"""

import threading
from collections import OrderedDict

from server.identity.service_auth import ServiceToken

MAX_TOKENS = 50_000


class SpentTokens:
    """Safe to share between threads; one for each process."""

    def __init__(self) -> None:
        self._spent: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        self._lock = threading.Lock()

    def is_spent(self, token: ServiceToken) -> bool:
        """Whether this token has done its work."""
        with self._lock:
            return (token.iss, token.jti) in self._spent

    def spend(self, token: ServiceToken) -> None:
        """It has done its work: not before that, or who was told to try again would do nothing."""
        if token.jti is None:
            return
        with self._lock:
            # Identifiers are their issuer's own: another's may be the same.
            self._spent[token.iss, token.jti] = None
            while len(self._spent) > MAX_TOKENS:
                self._spent.popitem(last=False)
