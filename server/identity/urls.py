"""Which addresses we fetch from at all, by their text. What a name leads to is dial.py's part."""

import re
from urllib.parse import urlsplit

from server.core.errors import FetchFailed
from server.core.syntax import is_hostname

# A URL of ours is a host, a path and a DID; the query is given separately.
MAX_URL_CHARS = 4096

# Names under which no host on the open internet lives.
PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".arpa", ".onion")

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~:@!$&'()*+,;=%-]*)*")


def checked_host(url: str, allow_private_hosts: bool) -> str:
    """The host, with its port if one is given, of a URL that we may fetch.

    Raises FetchFailed for all others: only https on port 443 of a DNS name is fetched, and with
    `allow_private_hosts` also http, other ports, and hosts of any name or number.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or ""), parts.port
    except ValueError:
        raise FetchFailed("an address that cannot be read, not fetched") from None
    host_text = f"[{host}]" if ":" in host else host
    netloc = host_text if port is None else f"{host_text}:{port}"
    # The rebuilt text must be the whole: two parsers that disagree about a URL are a hole.
    if len(url) > MAX_URL_CHARS or url != f"{parts.scheme}://{netloc}{parts.path}":
        raise FetchFailed("an address with more than a host and a path, not fetched")
    if not _HOST.fullmatch(host_text) or not _PATH.fullmatch(parts.path):
        raise FetchFailed("an address with odd characters, not fetched")
    if allow_private_hosts:
        if parts.scheme not in ("http", "https"):
            raise FetchFailed(f"{netloc}: neither http nor https, not fetched")
    elif parts.scheme != "https" or port not in (None, 443):
        raise FetchFailed(f"{netloc}: not https on its usual port, not fetched")
    elif not is_hostname(host) or host.endswith(PRIVATE_SUFFIXES):
        raise FetchFailed(f"{netloc}: not the name of a public host, not fetched")
    return netloc
