"""All settings: read once from a mapping, refused as a whole. Nothing else reads the environment.

Every setting is described for operators in `.env.example`, which a test compares with this file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.core.database_urls import database_url, replica_problems, replica_urls
from server.core.errors import ConfigError
from server.core.syntax import is_at_uri, is_did, is_hostname

DEFAULTS: dict[str, str] = {
    "FEED_HOSTNAME": "",
    "FEED_PUBLISHER_DID": "",
    "FEED_SERVICE_DID": "",
    "DATABASE_URL": "sqlite:///data/gapless.db",
    "DATABASE_REPLICA_URLS": "",
    "STREAM_URLS": "wss://bsky.network/xrpc/com.atproto.sync.subscribeRepos",
    "JETSTREAM_DICTIONARY": "",
    "JETSTREAM_FILTER_DIDS": "0",
    "PLC_URL": "https://plc.directory",
    "APPVIEW_URL": "https://public.api.bsky.app",
    "RETENTION_DAYS": "30",
    "BACKFILL_DAYS": "7",
    "VIEWER_DAYS": "30",
    "PORT": "8000",
    "WEB_WORKERS": "2",
    "WEB_THREADS": "16",
    "RECENT_ITEMS": "50000",
    "VIEWER_REQUESTS_PER_MINUTE": "600",
    "BACKFILL_WORKERS": "256",
    "LOG_FORMAT": "text",
    "LOG_LEVEL": "INFO",
    "ALLOW_PRIVATE_HOSTS": "",
    "NOTICE_POST_URI": "",
    "ADMIN_TOKEN": "",
    "SENTRY_DSN": "",
    "BACKUP_DIR": "",
    "BACKUP_HOURS": "24",
    "BACKUP_KEEP": "7",
}

# A database URL carries a password, the DSN of Sentry a key.
_SECRET = frozenset({"DATABASE_URL", "DATABASE_REPLICA_URLS", "ADMIN_TOKEN", "SENTRY_DSN"})

# The path says what kind of source a URL names.
RELAY_PATH = "/xrpc/com.atproto.sync.subscribeRepos"
JETSTREAM_V1_PATH = "/subscribe"
JETSTREAM_V2_PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
SOURCE_PATHS = (RELAY_PATH, JETSTREAM_V1_PATH, JETSTREAM_V2_PATH)

# More accounts a Jetstream does not take into a filter.
MAX_FILTER_DIDS = 10_000

# How such a file begins (RFC 8878, section 5).
ZSTD_DICTIONARY = bytes.fromhex("37a430ec")

# The DID that stands for "nobody yet": a local trial needs a feed URI, but publishes nothing.
UNPUBLISHED_DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, checked. Durations in days, as operators think of them."""

    hostname: str  # "localhost" when FEED_HOSTNAME is not set
    is_local_trial: bool
    publisher_did: str
    service_did: str
    service_endpoint: str
    # They may hold a password, and reports of errors show the values of variables.
    database_url: str = field(repr=False)
    replica_urls: tuple[str, ...] = field(repr=False)
    stream_urls: tuple[tuple[str, ...], ...]  # by preference; those in one tuple are read together
    jetstream_dictionary: str | None
    jetstream_filter_dids: int  # 0: never
    plc_url: str
    appview_url: str | None
    retention_days: int
    backfill_days: int
    viewer_days: int
    port: int
    web_workers: int
    web_threads: int
    recent_items: int  # in the memory of each web process; 0: none
    viewer_requests_per_minute: int
    backfill_workers: int
    log_format: str
    log_level: str
    allow_private_hosts: bool
    notice_post_uri: str | None
    admin_token: str | None = field(repr=False)
    sentry_dsn: str | None = field(repr=False)
    backup_dir: str | None
    backup_hours: int
    backup_keep: int


def load_config(environ: Mapping[str, str]) -> Config:
    """The settings in `environ`, with defaults for what is unset or empty.

    Raises ConfigError that names every problem at once.
    """
    reader = _Reader(environ)
    hostname = reader.read("FEED_HOSTNAME", _hostname) or "localhost"
    port = reader.integer("PORT", 1, 65535)
    is_local_trial = hostname == "localhost"
    service_did = f"did:web:localhost%3A{port}" if is_local_trial else f"did:web:{hostname}"
    config = Config(
        hostname=hostname,
        is_local_trial=is_local_trial,
        publisher_did=reader.read("FEED_PUBLISHER_DID", _did) or UNPUBLISHED_DID,
        service_did=reader.read("FEED_SERVICE_DID", _service_did) or service_did,
        service_endpoint=f"http://localhost:{port}" if is_local_trial else f"https://{hostname}",
        database_url=reader.read("DATABASE_URL", database_url) or "",
        replica_urls=reader.read("DATABASE_REPLICA_URLS", replica_urls) or (),
        stream_urls=reader.read("STREAM_URLS", _stream_urls) or (),
        jetstream_dictionary=reader.read("JETSTREAM_DICTIONARY", _dictionary),
        jetstream_filter_dids=reader.integer("JETSTREAM_FILTER_DIDS", 0, MAX_FILTER_DIDS),
        plc_url=reader.read("PLC_URL", _http_url) or "",
        appview_url=reader.read("APPVIEW_URL", _http_url_or_off),
        retention_days=reader.integer("RETENTION_DAYS", 1, 3650),
        backfill_days=reader.integer("BACKFILL_DAYS", 1, 3650),
        viewer_days=reader.integer("VIEWER_DAYS", 1, 3650),
        port=port,
        web_workers=reader.integer("WEB_WORKERS", 1, 64),
        web_threads=reader.integer("WEB_THREADS", 1, 64),
        recent_items=reader.read("RECENT_ITEMS", _recent_items) or 0,
        viewer_requests_per_minute=reader.integer("VIEWER_REQUESTS_PER_MINUTE", 10, 1_000_000),
        backfill_workers=reader.integer("BACKFILL_WORKERS", 1, 512),
        log_format=reader.choice("LOG_FORMAT", ("text", "json")),
        log_level=reader.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR")),
        allow_private_hosts=reader.read("ALLOW_PRIVATE_HOSTS", _switch) or False,
        notice_post_uri=reader.read("NOTICE_POST_URI", _post_uri),
        admin_token=reader.read("ADMIN_TOKEN", _secret),
        sentry_dsn=reader.read("SENTRY_DSN", _http_url),
        backup_dir=reader.read("BACKUP_DIR", str),
        backup_hours=reader.integer("BACKUP_HOURS", 1, 720),
        backup_keep=reader.integer("BACKUP_KEEP", 1, 1000),
    )
    if not is_local_trial and config.publisher_did == UNPUBLISHED_DID:
        reader.problems.append(
            "FEED_PUBLISHER_DID is not set: it is the DID of the account that publishes the feeds"
        )
    if config.backfill_days > config.retention_days:
        reader.problems.append(
            f"BACKFILL_DAYS={config.backfill_days} is more than RETENTION_DAYS="
            f"{config.retention_days}: what is older than that would be thrown away at once"
        )
    if config.backup_dir is not None and not config.database_url.startswith("sqlite:"):
        reader.problems.append(
            "BACKUP_DIR is for SQLite: copy PostgreSQL with pg_dump (docs/operating.md says how)"
        )
    reader.problems += replica_problems(config.database_url, config.replica_urls)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


class _Reader:
    """Reads settings one by one and remembers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def read(self, name: str, parse: Callable[[str], Any]) -> Any:
        text = (self.environ.get(name) or "").strip() or DEFAULTS[name]
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(f"{name}={_shown(name, text)!r}: {error}")
            return None

    def integer(self, name: str, low: int, high: int) -> int:
        def parse(text: str) -> int:
            if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
                raise ValueError(f"must be a whole number from {low} to {high}")
            return int(text)

        value = self.read(name, parse)
        return int(DEFAULTS[name]) if value is None else int(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        def parse(text: str) -> str:
            for value in allowed:
                if text.lower() == value.lower():
                    return value
            raise ValueError(f"must be one of {', '.join(allowed)}")

        return str(self.read(name, parse) or DEFAULTS[name])


def _shown(name: str, text: str) -> str:
    return "(hidden)" if name in _SECRET else text


def _recent_items(text: str) -> int:
    # One page may have to look at some hundreds.
    if text != "0" and not (text.isascii() and text.isdigit() and 1_000 <= int(text[:9]) <= 10**7):
        raise ValueError("must be 0, or a whole number from 1000 to 10000000")
    return int(text)


def _hostname(text: str) -> str:
    if text.lower() == "localhost":
        return "localhost"
    if not is_hostname(text.lower()):
        raise ValueError("must be a public host name like feed.example.com, with no scheme or path")
    return text.lower()


def _did(text: str) -> str:
    if not is_did(text):
        raise ValueError("must be a DID like did:plc:… or did:web:…")
    return text


def _service_did(text: str) -> str:
    if "#" in text or not text.startswith(("did:plc:", "did:web:")):
        raise ValueError("must be a bare DID (did:plc:… or did:web:…), with no #fragment")
    return text


def _stream_urls(text: str) -> tuple[tuple[str, ...], ...]:
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


def _dictionary(text: str) -> str:
    try:
        with Path(text).open("rb") as file:
            head = file.read(len(ZSTD_DICTIONARY))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if head != ZSTD_DICTIONARY:
        raise ValueError("must be the path of a zstd dictionary")
    return text


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ValueError("must be an http:// or https:// address, with no user name or query")
    return text.rstrip("/")


def _http_url_or_off(text: str) -> str | None:
    return None if text.lower() == "off" else _http_url(text)


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def _secret(text: str) -> str:
    # As it goes into an HTTP header, and too long to be guessed.
    if not 20 <= len(text) <= 200 or re.fullmatch(r"[A-Za-z0-9._~+/=-]+", text) is None:
        raise ValueError(
            "must have 20 to 200 letters, digits or ._~+/=- : try `openssl rand -hex 32`"
        )
    return text


def _post_uri(text: str) -> str:
    if not is_at_uri(text, "app.bsky.feed.post"):
        raise ValueError("must be the at:// URI of a post, with a DID and not a handle")
    return text
