"""How `doctor` asks the hosts that the settings name: as any ordinary client of theirs would.

With the machine's own proxy and certificate authorities, so that what it says is about the hosts,
and not about the guards that our requests to strangers have (identity/fetcher.py). Nothing is read
from a stranger this way.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from server.core.errors import FetchFailed, NotFound

# To connect, and between two pieces of the answer.
TIMEOUT_SECONDS = 10.0


def ask_json(url: str, agent: str, params: dict[str, str] | None = None) -> dict[str, object]:
    """The object that a GET of `url` brings. Raises NotFound for 400 and 404, else FetchFailed."""
    host = urlsplit(url).netloc
    answer = _get(url, agent, params)
    if answer.is_redirect:
        raise FetchFailed(f"{host} redirects to {answer.headers['Location'][:200]}")
    if answer.status_code in (400, 404):
        raise NotFound(f"{host} answers {answer.status_code}", "")
    if answer.status_code != 200:
        raise FetchFailed(f"{host} answers {answer.status_code}")
    try:
        said = answer.json()
    except requests.JSONDecodeError as error:
        raise FetchFailed(f"{host}: the answer is not JSON") from error
    if not isinstance(said, dict):
        raise FetchFailed(f"{host}: the answer is no object")
    return said


def ask_time(url: str, agent: str) -> datetime | None:
    """The time by the clock of a web server; None if it does not say. Raises FetchFailed."""
    try:
        return parsedate_to_datetime(_get(url, agent).headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def _get(url: str, agent: str, params: dict[str, str] | None = None) -> requests.Response:
    headers = {"User-Agent": agent}
    try:
        return requests.get(
            url, params, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        raise FetchFailed(f"{urlsplit(url).netloc}: {_words(error)}") from error


def _words(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS fails: is its certificate valid?"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of this machine (HTTPS_PROXY) does not let us through"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return "the answer is not proper HTTP"
