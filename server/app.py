"""The web application, put together from its parts."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response

from feeds import FEEDS
from server.arming import arm_crash_point
from server.core.config import Config, load_config
from server.core.metrics import WebMetrics
from server.error_tracking import start_error_tracking
from server.gunicorn_intake import MAX_BODY_BYTES
from server.identity.cache import IdentityCache
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.logs import configure_logging
from server.metrics_folder import VARIABLE
from server.outgoing import make_fetcher, make_handles
from server.storage import authors
from server.storage.allowance import allowed
from server.storage.database import release
from server.storage.ledger import Window
from server.storage.opening import open_database, patiently
from server.storage.recent_items import RecentItems
from server.storage.replicas import Replicas
from server.storage.spare_writes import SpareWrites
from server.version import VERSION, user_agent
from server.web import standing
from server.web.errors import register_error_handlers
from server.web.feed_check import FeedChecks
from server.web.first_load import FirstLoads
from server.web.limits import ViewerLimits
from server.web.observe import observe_requests
from server.web.ops import ops
from server.web.pages import pages
from server.web.sightings import Sightings
from server.web.spent_tokens import SpentTokens
from server.web.standing import Standing, Standings, look
from server.web.well_known import well_known
from server.web.xrpc import Service, xrpc


class Application(Flask):
    """Flask, whose hooks and views here are plain functions.

    Counts also what gunicorn's worker refused before it came here.
    """

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function: Flask would look eight times a request whether it is a coroutine."""
        return func

    def count_refusal(self, status: int, name: str) -> None:
        """Count an answer of the worker's. Which endpoint was meant nobody has read."""
        metrics: WebMetrics = self.extensions["metrics"][0]
        metrics.requests.labels("none", "", status).inc()
        metrics.errors.labels("none", name).inc()


def create_app(config: Config, metrics_folder: Path | None = None) -> Flask:
    """The application, over the database that is open.

    `metrics_folder`: where the processes of one gunicorn share what they count.
    """
    app = Application(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["VERSION"] = VERSION
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = True
    # A redirect to the path with single ones would be HTML, and lead where the client's Host says.
    app.url_map.merge_slashes = False
    metrics, spare_writes = WebMetrics(), SpareWrites()
    observe_requests(app, config, FEEDS, metrics)
    app.extensions["metrics"] = (metrics, metrics_folder)
    app.extensions["gapless"] = Service(
        config,
        FEEDS,
        make_identities(config, make_fetcher(config), metrics, spare_writes),
        ViewerLimits(config.viewer_requests_per_minute),
        Sightings(metrics.cache("viewer"), spare_writes),
        # A quarter of the threads always stays free for those who need not wait.
        FirstLoads(max(1, config.web_threads // 2)),
        SpentTokens(),
        Standings(lambda: _look(config, metrics, metrics_folder)),
        make_checks(config),
        make_replicas(config, metrics),
        make_recent(config, metrics),
        spare_writes,
    )
    for blueprint in (xrpc, well_known, ops, pages):
        app.register_blueprint(blueprint)
    register_error_handlers(app)

    @app.after_request
    def forbid_guessing(response: Response) -> Response:
        """No browser shall take what we say for another kind of thing than we say it is."""
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.teardown_request
    def give_connection_back(_error: BaseException | None) -> None:
        release()

    return app


def _look(config: Config, metrics: WebMetrics, folder: Path | None) -> Standing:
    now_us = _now_us()
    window = Window.at(now_us, config.backfill_days, config.retention_days)
    # For what counts all authors: with 500,000 of them, all in the queue, a statement takes some
    # seconds.
    with patiently(), allowed(standing.LOOK_SECONDS):
        return look(VERSION, window, metrics, None if folder is None else str(folder), now_us)


def make_replicas(config: Config, metrics: WebMetrics) -> Replicas:
    """Where pages are read, if DATABASE_REPLICA_URLS names any: each thread may do so at once."""
    return Replicas(
        config.replica_urls, config.web_threads, metrics.count_page, metrics.count_refusal
    )


def make_recent(config: Config, metrics: WebMetrics) -> RecentItems | None:
    """What is remembered for pages. Those that are read from replicas spare the primary instead."""
    if config.recent_items == 0 or config.replica_urls:
        return None
    return RecentItems(config.recent_items, metrics.page_reads.labels("memory").inc)


def make_checks(config: Config) -> FeedChecks:
    """What answers "is my feed complete?", by a way out of its own: others do not wait for it."""
    fetcher = Fetcher(config.allow_private_hosts, 1, user_agent=user_agent(config))
    uris = {feed.uri(config.publisher_did) for feed in FEEDS}
    return FeedChecks(fetcher, make_handles(config, fetcher), uris, _now_us)


def make_identities(
    config: Config, fetcher: Fetcher, metrics: WebMetrics, writes: SpareWrites
) -> IdentityCache:
    """Identities of those who ask: from memory, from the database, from the network."""
    directory = Directory(config.plc_url, fetcher)
    return IdentityCache(
        directory,
        authors,
        _now_us,
        metrics.cache("identity"),
        max_waiting=max(1, config.web_threads // 4),
        writes=writes,
    )


def _now_us() -> int:
    return time.time_ns() // 1000


def from_environment() -> Flask:
    """The application as gunicorn's workers make it."""
    config = load_config(os.environ)
    configure_logging(config.log_format, config.log_level)
    start_error_tracking(config.sentry_dsn, VERSION)
    arm_crash_point(config, os.environ)
    open_database(
        config.database_url,
        max_connections=config.web_threads + 2,
        for_requests=True,
        # gunicorn starts another process, which remembers nothing.
        leave=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    # The client library has read the same variable: see server/metrics_folder.py.
    folder = os.environ.get(VARIABLE)
    return create_app(config, None if folder is None else Path(folder))
