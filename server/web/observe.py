"""What is noted of each request: a name, how long it took, and what came of it.

Counted are endpoints, our own feeds, statuses and names of errors: all from fixed sets. Who asked
is not noted anywhere.
"""

import time
from functools import cache

from flask import Flask, Response, g, request
from prometheus_client import Counter, Histogram

from server.core.config import Config
from server.core.feed import Feed
from server.core.metrics import WebMetrics
from server.core.request_id import choose_id, request_id
from server.storage.database import take_seconds

HEADER = "X-Request-Id"


def observe_requests(
    app: Flask, config: Config, feeds: tuple[Feed, ...], metrics: WebMetrics
) -> None:
    """Name and count every request of the application."""
    rkeys = {feed.uri(config.publisher_did): feed.rkey for feed in feeds}

    @cache
    def meters(endpoint: str, feed: str, status: int) -> tuple[Counter, Histogram, Histogram]:
        return (
            metrics.requests.labels(endpoint, feed, status),
            metrics.request_seconds.labels(endpoint, feed),
            metrics.database_seconds.labels(endpoint),
        )

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()
        request_id.set(choose_id(request.headers.get(HEADER)))
        take_seconds()

    @app.after_request
    def end(response: Response) -> Response:
        response.headers[HEADER] = request_id.get()
        endpoint = (request.endpoint or "none").rpartition(".")[2]
        feed = rkeys.get(request.args.get("feed", ""), "")
        answered, took, in_database = meters(endpoint, feed, response.status_code)
        answered.inc()
        took.observe(time.perf_counter() - g.began)
        in_database.observe(take_seconds())
        if "error" in g:
            metrics.errors.labels(endpoint, g.error).inc()
        if "token_refusal" in g:
            metrics.token_refusals.labels(g.token_refusal).inc()
        return response

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        request_id.set("")
