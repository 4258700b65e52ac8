"""A PDS over HTTP: dispatch, rate limit, stream. The methods: pds_reads, pds_writes."""

import math
import time
from collections import Counter
from collections.abc import Callable

from simnet import stream
from simnet.event_log import Window
from simnet.faults import Faults
from simnet.host import Host, Listener
from simnet.http_server import LoopbackServer, Reply, Request, Upgrade, xrpc_error
from simnet.pds_reads import PdsReads
from simnet.pds_writes import PdsWrites
from simnet.world import World
from simnet.xrpc import Method, XrpcError

RATE_LIMIT_WINDOW_S = 300


class Pds(Host):
    """A host with a front door."""

    def __init__(
        self,
        index: int,
        world: World,
        clock: Callable[[], int],
        faults: Faults,
        listener: Listener,
        *,
        rate_limit: int,
        window: Window | None = None,
    ) -> None:
        super().__init__(index, world, clock, faults, listener, window)
        # How often each method was asked for, refused or not.
        self.requests: Counter[str] = Counter()
        self.server = LoopbackServer(self.name, self._handle, faults)
        self._rate_limit = rate_limit
        self._rate_window = (0, 0)  # when it began (seconds), how many requests since
        self._methods: dict[str, Method] = {
            **PdsReads(self, lambda: self.url).methods,
            **PdsWrites(self, lambda: self.url).methods,
        }

    @property
    def url(self) -> str:
        """The serviceEndpoint of its accounts."""
        return self.server.url

    @property
    def stream_url(self) -> str:
        """Its own subscribeRepos."""
        return f"ws://127.0.0.1:{self.server.port}{stream.PATH}"

    def _handle(self, request: Request) -> Reply | Upgrade:
        if request.path == stream.PATH:
            return self.stream.answer(request)
        name = request.path.removeprefix("/xrpc/")
        self.requests[name] += 1
        headers, is_over = self._spend()
        if is_over:
            wait = headers["Retry-After"] = str(self._reset_in_s())
            reply = xrpc_error(429, "RateLimitExceeded", f"Rate Limit Exceeded, wait {wait} s")
        else:
            reply = self._dispatch(name, request)
        reply.headers.update(headers)
        return reply

    def _dispatch(self, name: str, request: Request) -> Reply:
        verb, method = self._methods.get(name, ("", None))
        if method is None:
            return xrpc_error(501, "MethodNotImplemented", "Method Not Implemented")
        if verb != request.method:
            text = f"Incorrect HTTP method ({request.method}) expected {verb}"
            return xrpc_error(405, "InvalidRequest", text)
        try:
            with self.world.lock:
                return method(request)
        except XrpcError as refused:
            return xrpc_error(refused.status, refused.name, refused.message)

    def _spend(self) -> tuple[dict[str, str], bool]:
        """Count a request against the limit: the headers that say so, and whether it is over."""
        with self.world.lock:
            began, count = self._rate_window
            now = int(time.monotonic())
            if now - began >= RATE_LIMIT_WINDOW_S or not count:
                began, count = now, 0
            self._rate_window = (began, count + 1)
        headers = {
            "RateLimit-Limit": str(self._rate_limit),
            "RateLimit-Remaining": str(max(0, self._rate_limit - count - 1)),
            "RateLimit-Reset": str(math.ceil(time.time()) + self._reset_in_s()),
            "RateLimit-Policy": f"{self._rate_limit};w={RATE_LIMIT_WINDOW_S}",
        }
        return headers, count >= self._rate_limit

    def _reset_in_s(self) -> int:
        return max(1, self._rate_window[0] + RATE_LIMIT_WINDOW_S - int(time.monotonic()))
