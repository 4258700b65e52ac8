"""The one door for our own HTTP requests: JSON from PLC, from did:web hosts and from PDSes.

Those hosts are chosen by strangers. Everything is bounded here: where a request may go, how long it
takes in all, how much it brings, how often a host is asked. What the JSON means is not known here.
"""

import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import urlencode

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from server.core.errors import FetchFailed, NotFound
from server.identity.dial import Dialler, GuardedAdapter, Resolver, resolve_name
from server.identity.hosts import MAX_REST_S, HostTable
from server.identity.network_errors import describe, was_hung_up
from server.identity.strict_json import parse_json
from server.identity.urls import checked_host

# Bytes read at a time; what we hold beyond `max_bytes` is at most one such piece.
CHUNK_BYTES = 65_536

# Of an error's body we want the name in it; a page of HTML is of no use to us. Bytes.
MAX_ERROR_BYTES = 16_384

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
        self._headers = CaseInsensitiveDict(
            {
                "User-Agent": user_agent,
                "Accept": "application/json, */*;q=0.1",
                "Accept-Encoding": "gzip",
            }
        )
        dialler = Dialler(allow_private_hosts, resolve)
        self._adapter = GuardedAdapter(
            dialler,
            ca_file or DEFAULT_CA_BUNDLE_PATH,
            max([max_concurrent_per_host, *(roomy or {}).values()]),
        )

    def close(self) -> None:
        """Close the connections kept open for reuse."""
        self._adapter.close()

    def get_json(
        self,
        url: str,
        params: Parameters | None = None,
        *,
        deadline_s: float,
        max_bytes: int,
    ) -> object:
        """The JSON that a GET of `url` answers with; `deadline_s` bounds everything together.

        `max_bytes` counts after decompression. Raises NotFound when the host says that the thing
        is not there, FetchFailed for all other trouble; their messages name the host only.
        """
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
        return _read_answer(host, answer, rest_s)

    def _exchange(
        self,
        host: str,
        url: str,
        params: Parameters | None,
        deadline: float,
        max_bytes: int,
    ) -> "_Answer":
        for is_last_try in (False, True):
            try:
                return self._exchange_once(host, url, params, deadline, max_bytes)
            except (
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                HTTPException,
                OSError,
                ValueError,
            ) as error:
                # The host may close an idle connection at the moment in which we reuse it.
                if is_last_try or not was_hung_up(error):
                    raise _NoAnswer(describe(error)) from error
        raise AssertionError("the last try returns or raises")

    def _exchange_once(
        self,
        host: str,
        url: str,
        params: Parameters | None,
        deadline: float,
        max_bytes: int,
    ) -> "_Answer":
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        # Not prepared by the session: the URL is checked, there is nothing to add, and it would be
        # a fifth of our work. Nor sent by it: for a redirect it reads the whole body, however
        # large, to work out a next request that nobody wants.
        request = requests.PreparedRequest()
        request.method, request.headers, request.hooks = "GET", self._headers, {}
        request.url = f"{url}?{urlencode(params, doseq=True)}" if params else url
        response = self._adapter.send(
            request,
            stream=True,
            # A total for connecting and for the headers; the socket extends it over the body.
            timeout=urllib3.Timeout(total=left_s),  # type: ignore[arg-type]
        )
        with closing(response):
            wanted = response.status_code in (200, 400, 404, 410)
            limit = max_bytes if response.status_code == 200 else MAX_ERROR_BYTES
            body = _read_body(response, limit) if wanted else b""
            return _Answer(response.status_code, dict(response.headers.lower_items()), body)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a host said. `body` is None when it was too large, or compressed in no way we know."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class _NoAnswer(Exception):
    """The host did not bring an answer to its end; the message says what happened."""


def _read_body(response: requests.Response, max_bytes: int) -> bytes | None:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        return None
    # Our own decompression, because its output must be bounded whatever the library's version.
    gunzip = None if encoding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    body = bytearray()
    while piece := response.raw.read(CHUNK_BYTES, decode_content=False):
        if gunzip is not None:
            try:
                piece = gunzip.decompress(piece, max_bytes + 1 - len(body))
            except zlib.error as error:
                raise ValueError("a body that is not gzip") from error
        body += piece
        if len(body) > max_bytes or response.raw.tell() > max_bytes + CHUNK_BYTES:
            return None
    if gunzip is not None and body and not gunzip.eof:
        raise ValueError("a body that ends early")
    return bytes(body)


def _read_answer(host: str, answer: _Answer, rest_s: float | None) -> object:
    if answer.status == 200:
        if answer.body is None:
            raise FetchFailed(f"{host}: the answer is too large, or encoded in an unknown way")
        try:
            return parse_json(answer.body)
        except ValueError as error:
            raise FetchFailed(f"{host}: the answer is not usable JSON") from error
    name = _error_name(answer.body)
    if answer.status in (404, 410) or (answer.status == 400 and name in NOT_THERE):
        raise NotFound(f"{host} answers {answer.status} {name}".rstrip(), name)
    if 300 <= answer.status < 400:
        raise FetchFailed(f"{host} redirects ({answer.status}), which is not followed")
    raise FetchFailed(f"{host} answers {answer.status} {name}".rstrip(), rest_s)


def _error_name(body: bytes | None) -> str:
    try:
        document = parse_json(body or b"")
    except ValueError:
        return ""
    name = document.get("error") if isinstance(document, dict) else None
    return name if isinstance(name, str) and _ERROR_NAME.fullmatch(name) else ""


def _wanted_rest_s(answer: _Answer, now_s: float) -> float | None:
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
