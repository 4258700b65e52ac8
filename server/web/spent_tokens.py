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
        self._spent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, token: ServiceToken) -> bool:
        """Whether this is the first time that this token comes."""
        if token.jti is None:
            return True
        # Identifiers are their issuer's own: another's may be the same.
        name = (token.iss, token.jti)
        with self._lock:
            if name in self._spent:
                return False
            self._spent[name] = None
            while len(self._spent) > MAX_TOKENS:
                self._spent.popitem(last=False)
            return True
