"""All settings: read once from a mapping, refused as a whole. Nothing else reads the environment.

Every setting is described for operators in `.env.example`, which a test compares with this file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.core import setting_values as values
from server.core.database_urls import database_url, replica_problems, replica_urls
from server.core.errors import ConfigError

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

# More accounts a Jetstream does not take into a filter.
MAX_FILTER_DIDS = 10_000

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
    hostname = reader.read("FEED_HOSTNAME", values.hostname) or "localhost"
    port = reader.integer("PORT", 1, 65535)
    is_local_trial = hostname == "localhost"
    service_did = f"did:web:localhost%3A{port}" if is_local_trial else f"did:web:{hostname}"
    config = Config(
        hostname=hostname,
        is_local_trial=is_local_trial,
        publisher_did=reader.read("FEED_PUBLISHER_DID", values.did) or UNPUBLISHED_DID,
        service_did=reader.read("FEED_SERVICE_DID", values.service_did) or service_did,
        service_endpoint=f"http://localhost:{port}" if is_local_trial else f"https://{hostname}",
        database_url=reader.read("DATABASE_URL", database_url) or "",
        replica_urls=reader.read("DATABASE_REPLICA_URLS", replica_urls) or (),
        stream_urls=reader.read("STREAM_URLS", values.stream_urls) or (),
        jetstream_dictionary=reader.read("JETSTREAM_DICTIONARY", values.dictionary),
        jetstream_filter_dids=reader.integer("JETSTREAM_FILTER_DIDS", 0, MAX_FILTER_DIDS),
        plc_url=reader.read("PLC_URL", values.http_url) or "",
        appview_url=reader.read("APPVIEW_URL", values.http_url_or_off),
        retention_days=reader.integer("RETENTION_DAYS", 1, 3650),
        backfill_days=reader.integer("BACKFILL_DAYS", 1, 3650),
        viewer_days=reader.integer("VIEWER_DAYS", 1, 3650),
        port=port,
        web_workers=reader.integer("WEB_WORKERS", 1, 64),
        web_threads=reader.integer("WEB_THREADS", 1, 64),
        recent_items=reader.read("RECENT_ITEMS", values.recent_items) or 0,
        viewer_requests_per_minute=reader.integer("VIEWER_REQUESTS_PER_MINUTE", 10, 1_000_000),
        backfill_workers=reader.integer("BACKFILL_WORKERS", 1, 512),
        log_format=reader.choice("LOG_FORMAT", ("text", "json")),
        log_level=reader.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR")),
        allow_private_hosts=reader.read("ALLOW_PRIVATE_HOSTS", values.switch) or False,
        notice_post_uri=reader.read("NOTICE_POST_URI", values.post_uri),
        admin_token=reader.read("ADMIN_TOKEN", values.secret),
        sentry_dsn=reader.read("SENTRY_DSN", values.sentry_dsn),
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
            number = values.whole_number(text)
            if not low <= number <= high:
                raise ValueError(f"must be a whole number from {low} to {high}")
            return number

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
