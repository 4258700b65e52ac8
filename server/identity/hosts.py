"""How we treat each host that we fetch from: a few requests at once, rest when it asks, a breaker.

In memory, for one process. Knows nothing about HTTP: the caller says how a visit went.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from server.core.errors import FetchFailed, HostRests

# Hosts remembered. What is forgotten is only that a host was in trouble; a flood of made-up host
# names thus costs a few megabytes and nothing else.
MAX_HOSTS = 4096

# Failures in a row before we stop asking, and for how long then: doubling, from the first to the
# second number of seconds. After that one request goes through as a probe.
BREAKER_FAILURES = 5
BREAKER_FIRST_S = 1.0
BREAKER_MAX_S = 60.0

# The most that a host's own wish to be left alone is worth, in seconds.
MAX_REST_S = 3600.0


class HostTable:
    """The state of each host. `monotonic` gives seconds, and is a parameter for the tests.

    `roomy` are hosts that take more requests at once than others.
    """

    def __init__(
        self,
        max_concurrent: int,
        monotonic: Callable[[], float],
        roomy: Mapping[str, int] | None = None,
    ) -> None:
        self._max_concurrent = max_concurrent
        self._roomy = roomy or {}
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    @contextmanager
    def visit(self, name: str, wait_s: float) -> Iterator["Visit"]:
        """One request to a host: waits up to `wait_s` for a free place.

        Raises FetchFailed, without a request, when its breaker is open; HostRests when it rests.
        """
        with self._lock:
            host = self._host(name)
            self._check(host, name)
            # Only one caller may try whether the host is back.
            is_probe = host.failures >= BREAKER_FAILURES
            host.is_probed |= is_probe
            host.visits += 1
        try:
            if not host.places.acquire(timeout=max(wait_s, 0)):
                raise FetchFailed(f"{name}: too many requests of ours are under way")
            try:
                self._check_again(host, name, is_probe)
                yield Visit(self, host)
            finally:
                host.places.release()
        finally:
            with self._lock:
                host.visits -= 1
                if is_probe:
                    host.is_probed = False

    def _host(self, name: str) -> "_Host":
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._roomy.get(name, self._max_concurrent))
            self._forget_some()
        self._hosts.move_to_end(name)
        return host

    def _forget_some(self) -> None:
        # Never one that is being visited: its successor would not know of those visits. There are
        # no more of those than there are threads.
        while len(self._hosts) > MAX_HOSTS:
            idle = next((name for name, host in self._hosts.items() if host.visits == 0), None)
            if idle is None:
                return
            del self._hosts[idle]

    def _check(self, host: "_Host", name: str) -> None:
        now = self._monotonic()
        if now < host.rests_until:
            left_s = host.rests_until - now
            raise HostRests(f"{name} asked us to wait for {left_s:.0f} s more", left_s)
        if host.failures >= BREAKER_FAILURES and (now < host.refused_until or host.is_probed):
            left_s = max(host.refused_until - now, BREAKER_FIRST_S)
            raise FetchFailed(f"{name} failed {host.failures} times in a row, not asked", left_s)

    def _check_again(self, host: "_Host", name: str, is_probe: bool) -> None:
        # While we waited for a place, others may have learned that the host is in trouble.
        with self._lock:
            if not is_probe:
                self._check(host, name)

    def _answered(self, host: "_Host") -> None:
        with self._lock:
            host.failures = 0

    def _failed(self, host: "_Host") -> None:
        with self._lock:
            host.failures += 1
            doublings = min(host.failures - BREAKER_FAILURES, 30)
            if doublings >= 0:
                pause_s = min(BREAKER_FIRST_S * 2**doublings, BREAKER_MAX_S)
                host.refused_until = self._monotonic() + pause_s

    def _rest(self, host: "_Host", seconds: float) -> None:
        with self._lock:
            until = self._monotonic() + min(seconds, MAX_REST_S)
            host.rests_until = max(host.rests_until, until)


class Visit:
    """What a caller reports about its request."""

    def __init__(self, table: HostTable, host: "_Host") -> None:
        self._table = table
        self._host = host

    def answered(self) -> None:
        """The host works, whatever it said."""
        self._table._answered(self._host)

    def failed(self) -> None:
        """The host did not answer, or says itself that it is broken."""
        self._table._failed(self._host)

    def rest(self, seconds: float) -> None:
        """The host asked not to be asked again for a while."""
        self._table._rest(self._host, seconds)


class _Host:
    __slots__ = ("failures", "is_probed", "places", "refused_until", "rests_until", "visits")

    def __init__(self, max_concurrent: int) -> None:
        self.places = threading.BoundedSemaphore(max_concurrent)
        self.visits = 0
        self.failures = 0
        self.refused_until = 0.0
        self.rests_until = 0.0
        self.is_probed = False
