"""What may stand in each setting: functions that take its text and give its value.

They raise ValueError with a sentence for the operator.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from server.core.syntax import is_at_uri, is_did, is_hostname

# The path says what kind of source a URL names.
RELAY_PATH = "/xrpc/com.atproto.sync.subscribeRepos"
JETSTREAM_V1_PATH = "/subscribe"
JETSTREAM_V2_PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
SOURCE_PATHS = (RELAY_PATH, JETSTREAM_V1_PATH, JETSTREAM_V2_PATH)

# Of a number in a setting.
MAX_DIGITS = 9
# How such a file begins (RFC 8878, section 5).
ZSTD_DICTIONARY = bytes.fromhex("37a430ec")


def whole_number(text: str) -> int:
    """The number that plain digits are; -1 for other texts, and for what no setting can be."""
    if not (text.isascii() and text.isdigit()):
        return -1
    digits = text.lstrip("0") or "0"
    # Of thousands of digits Python makes no number.
    return int(digits) if len(digits) <= MAX_DIGITS else -1


def recent_items(text: str) -> int:
    """How many items may be remembered; 0: none."""
    # One page may have to look at some hundreds.
    if text != "0" and not 1_000 <= whole_number(text) <= 10**7:
        raise ValueError("must be 0, or a whole number from 1000 to 10000000")
    return whole_number(text)


def hostname(text: str) -> str:
    """A host name that others can reach, or localhost."""
    if text.lower() == "localhost":
        return "localhost"
    if not is_hostname(text.lower()):
        raise ValueError("must be a public host name like feed.example.com, with no scheme or path")
    return text.lower()


def did(text: str) -> str:
    """A DID."""
    if not is_did(text):
        raise ValueError("must be a DID like did:plc:… or did:web:…")
    return text


def service_did(text: str) -> str:
    """A DID of a kind that the app resolves."""
    # Of localhost is the DID of a local trial.
    if not is_did(text) and re.fullmatch(r"did:web:localhost(%3A\d{1,5})?", text) is None:
        raise ValueError(
            "must be a bare DID (did:plc:… or did:web:HOST), with no port or #fragment"
        )
    return text


def stream_urls(text: str) -> tuple[tuple[str, ...], ...]:
    """Sources in the order of preference; those of a group are read together."""
    groups = tuple(
        tuple(url.strip() for url in group.split("+")) for group in text.split(",") if group.strip()
    )
    if not groups:
        raise ValueError("must name at least one source")
    for group in groups:
        for url in group:
            _check_stream_url(url)
        if len({urlsplit(url).netloc for url in group}) < len(group):
            raise ValueError(f"{'+'.join(group)}: sources read together must be of different hosts")
    return groups


def _check_stream_url(url: str) -> None:
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError for what is none
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url}: must be a ws:// or wss:// address")
    if parts.path not in SOURCE_PATHS:
        raise ValueError(f"{url}: the path must be one of {', '.join(SOURCE_PATHS)}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{url}: must have no query, fragment or user name")


def dictionary(text: str) -> str:
    """The path of a zstd dictionary."""
    try:
        with Path(text).open("rb") as file:
            head = file.read(len(ZSTD_DICTIONARY))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if head != ZSTD_DICTIONARY:
        raise ValueError("must be the path of a zstd dictionary")
    return text


def http_url(text: str) -> str:
    """An address of a service, without a slash at its end."""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for what is none
    if parts.scheme not in ("http", "https") or not parts.hostname or set(text) & set("@?#"):
        problem = "must be an http:// or https:// address, with no user name, query or #fragment"
        raise ValueError(problem)
    return text.rstrip("/")


def sentry_dsn(text: str) -> str:
    """The DSN of a project: the user name is its key; the package judges the rest."""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for what is none
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.username:
        raise ValueError("must be the DSN of a project, like https://KEY@HOST/NUMBER")
    return text


def http_url_or_off(text: str) -> str | None:
    """The same; None for `off`."""
    return None if text.lower() == "off" else http_url(text)


def switch(text: str) -> bool:
    """Yes or no."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def secret(text: str) -> str:
    """A word that nobody guesses."""
    # As it goes into an HTTP header, and too long to be guessed.
    if not 20 <= len(text) <= 200 or re.fullmatch(r"[A-Za-z0-9._~+/=-]+", text) is None:
        raise ValueError(
            "must have 20 to 200 letters, digits or ._~+/=- : try `openssl rand -hex 32`"
        )
    return text


def post_uri(text: str) -> str:
    """The at-URI of a post."""
    if not is_at_uri(text, "app.bsky.feed.post"):
        raise ValueError("must be the at:// URI of a post, with a DID and not a handle")
    return text
