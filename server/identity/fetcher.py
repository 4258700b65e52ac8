"""The one door for our own HTTP requests: to PLC, to did:web hosts, to handles' and to PDSes.

Those hosts are chosen by strangers. Everything is bounded here: where a request may go, how long it
takes in all, how much it brings, how often a host is asked. What the JSON means is not known here.
"""

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

from server.core.errors import FetchFailed, HostRests, NotFound, TooLarge
from server.identity.connection import Answer, EndsEarly, KeptConnections, NotHttp, get
from server.identity.dial import Dialler, Resolver, TooManyLookups, resolve_name
from server.identity.hosts import MAX_REST_S, HostTable
from server.identity.network_errors import describe
from server.identity.strict_json import parse_json
from server.identity.urls import checked_host

# Seconds that a host rests after a 429 that does not say how long.
DEFAULT_REST_S = 10.0

# XRPC errors, sent with a 400, by which a PDS says that a thing is not there. A PDS says plain
# InvalidRequest for an unknown repo as well as for a bad parameter: the caller must ask further.
NOT_THERE = frozenset(
    {
        "RepoNotFound",
        "RepoDeactivated",
        "RepoTakendown",
        "RepoSuspended",
        "RecordNotFound",
        "InvalidRequest",
    }
)

# Of a query; a list repeats its name.
Parameters = Mapping[str, str | Sequence[str]]

_ERROR_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)


class Fetcher:
    """Fetches JSON from strangers. Safe to share between threads; one for each process."""

    def __init__(
        self,
        allow_private_hosts: bool,
        max_concurrent_per_host: int = 4,
        *,
        user_agent: str,
        roomy: Mapping[str, int] | None = None,
        ca_file: str | None = None,
        resolve: Resolver = resolve_name,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`allow_private_hosts` is for test networks: http, any port, any address.

        `roomy` says of hosts, named as in their URLs, how many requests they take at once instead.
        `ca_file` replaces the usual certificate authorities; `resolve` and `monotonic` (for the
        breaker only) replace the system's for tests.
        """
        self._allow_private_hosts = allow_private_hosts
        self._hosts = HostTable(max_concurrent_per_host, monotonic, roomy)
        self._headers = (
            f"User-Agent: {user_agent}\r\n"
            "Accept: application/json, */*;q=0.1\r\n"
            "Accept-Encoding: gzip\r\n"
        )
        self._dialler = Dialler(allow_private_hosts, resolve, ca_file)
        self._kept = KeptConnections()

    def close(self) -> None:
        """Close the connections kept open for reuse."""
        self._kept.close()

    def get_json(
        self,
        url: str,
        params: Parameters | None = None,
        *,
        deadline_s: float,
        max_bytes: int,
        parse: Callable[[bytes], object] = parse_json,
    ) -> object:
        """The JSON that a GET of `url` answers with; `deadline_s` bounds everything together.

        `max_bytes` counts after decompression. `parse` raises ValueError for what is of no use.
        Raises NotFound when the host says that the thing is not there, HostRests when it wants to
        be left alone, TooLarge for a larger answer, FetchFailed for all other trouble; their
        messages name the host only.
        """
        host, body = self._get(url, params, deadline_s, max_bytes)
        try:
            return parse(body)
        except ValueError as error:
            raise FetchFailed(f"{host}: the answer is not usable JSON") from error

    def get_text(self, url: str, *, deadline_s: float, max_bytes: int) -> str:
        """The same for a text of ASCII letters; others raise FetchFailed."""
        host, body = self._get(url, None, deadline_s, max_bytes)
        try:
            return body.decode("ascii")
        except UnicodeDecodeError as error:
            raise FetchFailed(f"{host}: the answer is no plain text") from error

    def _get(
        self, url: str, params: Parameters | None, deadline_s: float, max_bytes: int
    ) -> tuple[str, bytes]:
        """The host, and the body that it sent with a 200."""
        deadline = time.monotonic() + deadline_s
        host = checked_host(url, self._allow_private_hosts)
        with self._hosts.visit(host, deadline_s) as visit:
            try:
                answer = self._exchange(host, url, params, deadline, max_bytes)
            except _NoAnswer as problem:
                visit.failed()
                raise FetchFailed(f"{host}: {problem}") from problem
            if answer.status >= 500:
                visit.failed()
            else:
                visit.answered()
            rest_s = _wanted_rest_s(answer, time.time())
            if rest_s is not None:
                visit.rest(rest_s)
        return host, _read_answer(host, answer, rest_s)

    def _exchange(
        self,
        host: str,
        url: str,
        params: Parameters | None,
        deadline: float,
        max_bytes: int,
    ) -> Answer:
        parts = urlsplit(url)
        path = parts.path or "/"
        if params:
            path += f"?{urlencode(params, doseq=True)}"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{self._headers}\r\n".encode("ascii")
        origin = f"{parts.scheme}://{host}"
        kept = self._kept.take(origin)
        try:
            if kept is not None:
                try:
                    return self._ask(kept, origin, request, deadline, max_bytes)
                except ConnectionError:
                    # The host may close an idle connection at the moment in which we reuse it.
                    pass
            connection = self._connect(parts.scheme, parts.hostname, parts.port, deadline)
            return self._ask(connection, origin, request, deadline, max_bytes)
        except TooManyLookups as error:
            raise FetchFailed(f"{host}: too many name look-ups of ours are under way") from error
        except (OSError, EndsEarly, NotHttp) as error:
            raise _NoAnswer(describe(error)) from error

    def _connect(
        self, scheme: str, name: str | None, port: int | None, deadline: float
    ) -> socket.socket:
        is_tls = scheme == "https"
        dial = self._dialler.dial_tls if is_tls else self._dialler.dial
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return dial(name or "", port or (443 if is_tls else 80), left_s)

    def _ask(
        self,
        connection: socket.socket,
        origin: str,
        request: bytes,
        deadline: float,
        max_bytes: int,
    ) -> Answer:
        """Ask over a connection, which is kept or closed afterwards."""
        is_reusable = False
        try:
            answer = get(connection, request, deadline, max_bytes)
            is_reusable = answer.is_reusable
        finally:
            if is_reusable:
                self._kept.keep(origin, connection)
            else:
                connection.close()
        return answer


class _NoAnswer(Exception):
    """The host did not bring an answer to its end; the message says what happened."""


def _read_answer(host: str, answer: Answer, rest_s: float | None) -> bytes:
    if answer.status == 200:
        if answer.is_too_large:
            raise TooLarge(f"{host}: the answer is too large")
        if answer.body is None:
            raise FetchFailed(f"{host}: the answer is encoded in an unknown way")
        return answer.body
    name = _error_name(answer.body)
    if answer.status in (404, 410) or (answer.status == 400 and name in NOT_THERE):
        message = f"{host} answers {answer.status} {name}".rstrip()
        raise NotFound(message, name, is_for_good=answer.status == 410)
    if 300 <= answer.status < 400:
        raise FetchFailed(f"{host} redirects ({answer.status}), which is not followed")
    said = f"{host} answers {answer.status} {name}".rstrip()
    raise FetchFailed(said) if rest_s is None else HostRests(said, rest_s)


def _error_name(body: bytes | None) -> str:
    try:
        document = parse_json(body or b"")
    except ValueError:
        return ""
    name = document.get("error") if isinstance(document, dict) else None
    return name if isinstance(name, str) and _ERROR_NAME.fullmatch(name) else ""


def _wanted_rest_s(answer: Answer, now_s: float) -> float | None:
    """How long the host wants to be left alone; None if it did not say and need not."""
    if answer.status not in (429, 503):
        return None
    rest_s = _retry_after_s(answer.headers.get("retry-after", ""), now_s)
    if rest_s is None and answer.status == 429:
        reset = answer.headers.get("ratelimit-reset", "").strip()
        if reset.isascii() and reset.isdigit():
            # Seconds since 1970 on Bluesky's servers; the number of seconds to wait elsewhere.
            number = float(reset[:15])
            rest_s = number - now_s if number > 1e9 else number
        else:
            rest_s = DEFAULT_REST_S
    return None if rest_s is None else min(max(rest_s, 1.0), MAX_REST_S)


def _retry_after_s(text: str, now_s: float) -> float | None:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:15])
    try:
        return parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, OverflowError):
        return None
