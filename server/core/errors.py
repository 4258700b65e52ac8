"""Every exception of ours, sorted by who must act.

FeedError
├── ConfigError             the process cannot start: the operator must change a setting
├── BackupFailed            no copy was made or put back: the operator must act
├── XrpcError               the answer to a request: becomes a status and an XRPC error body
│   ├── BadRequest          400, the caller's fault
│   │   ├── MalformedCursor
│   │   └── UnknownFeed
│   ├── AuthRequired        401, a token is missing or not valid
│   ├── TooManyRequests     429, one viewer asks more often than any app does
│   ├── IdentityUnavailable 503, we could not look a key up: never the caller's fault
│   └── FeedNotReady        503, nothing of a new viewer's feed is here yet: nobody's fault
├── BadRecord               the network's fault: drop the record, count it, go on
├── BadFrame                the network's fault: a frame of the stream that cannot be read
├── StreamBroken            the connection ended: back off, reconnect
│   ├── StreamSilent        it stands, and nothing is said: try another source
│   ├── StreamHalfOpen      it only seems to stand: nobody answers our pings
│   └── StreamUnreadable    what it says cannot be read: read it from now on
├── FetchFailed             a peer did not give what we asked for: the job is retried later
│   ├── NotFound            the peer answers, and what we asked for is not there
│   ├── HostRests           the peer asks us to leave it alone for a while
│   └── TooLarge            the answer has more bytes than we take: ask for less
├── ReplicaUnfit            a replica cannot give a page now: another one does, or the primary
└── LeaseLost               another process leads: stop writing
"""


class FeedError(Exception):
    """The root; nothing raises it as such."""


class ConfigError(FeedError):
    """Settings that cannot be used; the message names every one of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BackupFailed(FeedError):
    """No backup was made, or none was put back; the message says why and what to do."""


class XrpcError(FeedError):
    """An answer that is not the wanted one: `status`, `name` and `message` go to the caller."""

    status = 500
    name = "InternalServerError"
    # Seconds after which it may go better.
    retry_after_s: int | None = None

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if name is not None:
            self.name = name


class BadRequest(XrpcError):
    """A request that can never succeed as it is."""

    status = 400
    name = "InvalidRequest"


class MalformedCursor(BadRequest):
    """A feed cursor that we did not write."""


class UnknownFeed(BadRequest):
    """A feed URI that is not one of ours. The one error name that the lexicon declares."""

    name = "UnknownFeed"


class AuthRequired(XrpcError):
    """No token, or one that proves nothing. `reason` is a fixed word for logs and metrics."""

    status = 401
    name = "AuthenticationRequired"

    def __init__(self, message: str, reason: str, name: str | None = None) -> None:
        super().__init__(message, name)
        self.reason = reason


class TooManyRequests(XrpcError):
    """More requests of one viewer than an app has reason to make."""

    status = 429
    name = "RateLimitExceeded"
    retry_after_s = 5


class IdentityUnavailable(XrpcError):
    """The issuer's key could not be looked up. No 401: clients would throw their session away."""

    status = 503
    name = "IdentityUnavailable"
    retry_after_s = 5


class FeedNotReady(XrpcError):
    """Nothing of a new viewer's first page is here yet. Apps show the message."""

    status = 503
    name = "FeedNotReady"
    retry_after_s = 5


class BadRecord(FeedError):
    """A record that its lexicon refuses. The AppView does not index it, so neither do we."""


class BadFrame(FeedError):
    """A frame that cannot be read. What it said is unknown: a gap is opened for it."""


class StreamBroken(FeedError):
    """The stream's connection is over, for whatever reason; the message says why."""


class StreamSilent(StreamBroken):
    """The source accepted us, and says nothing."""


class StreamHalfOpen(StreamBroken):
    """The other side is gone, and nothing told us so."""


class StreamUnreadable(StreamBroken):
    """Nothing that the source says can be read, and at our cursor it would say the same again."""


class FetchFailed(FeedError):
    """A request of ours failed. `retry_after_s` is the peer's own wish, if it gave one."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotFound(FetchFailed):
    """The peer answers, and says that the thing is not there (any more).

    `name` is the XRPC error name, e.g. RepoNotFound or RepoDeactivated; "" if there was none.
    `is_for_good`: it was there, says the peer, and will not be again (HTTP 410).
    """

    def __init__(self, message: str, name: str = "", *, is_for_good: bool = False) -> None:
        super().__init__(message)
        self.name = name
        self.is_for_good = is_for_good


class HostRests(FetchFailed):
    """The peer asks not to be asked for `retry_after_s`, of whatever: it lives, and is busy."""


class TooLarge(FetchFailed):
    """An answer of more bytes than the caller takes."""


class ReplicaUnfit(FeedError):
    """A replica cannot be read from now. `message` is the first line of what was said of it."""

    def __init__(self, reason: str, message: object = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = next(iter(str(message).splitlines()), "").strip()


class LeaseLost(FeedError):
    """Somebody else leads now. Whatever was about to be written must not be."""
