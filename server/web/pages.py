"""The pages for people: what the feeds are, how things stand, and how complete a feed is.

They work without JavaScript and load nothing from anywhere else. What they show costs a look at
the database at most once in a few seconds (`standing`), however often they are asked for. While the
database does not answer they say so, and still say what the feeds are.
"""

import dataclasses
import time
from pathlib import Path

from flask import Blueprint, Response, abort, jsonify, render_template, request, send_file

import feeds
from server.core.feed import Feed
from server.core.wording import duration, moment, size, span
from server.storage.database import DatabaseError
from server.storage.history import KEPT_SECONDS
from server.storage.ledger import Window
from server.web import charts
from server.web.feed_check import Answer
from server.web.in_words import NO_DATABASE, REASONS, number, summary
from server.web.standing import FRESH_SECONDS, Standing
from server.web.xrpc import service

pages = Blueprint(
    "pages",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)

AVATARS = Path(feeds.__file__).parent / "avatars"
_AVATAR_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}

# Only our own files, no inline script or style, and nobody frames a page or takes a form elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_STATUS_OF_CHECK = {"invalid": 400, "busy": 503}


@pages.after_request
def add_headers(response: Response) -> Response:
    """What a browser is to allow."""
    response.headers.extend(_HEADERS)
    return response


@pages.get("/")
def home() -> Response:
    """What this is, for whoever comes with a browser."""
    ours = service()
    found = [
        (
            feed,
            f"https://bsky.app/profile/{ours.config.publisher_did}/feed/{feed.rkey}",
            _avatar_file(feed) is not None,
        )
        for feed in ours.feeds
    ]
    now = _standing()
    words = NO_DATABASE if now is None else summary(now)
    text = render_template(
        "home.html", feeds=found, words=words, is_local_trial=ours.config.is_local_trial
    )
    return _html(text)


@pages.get("/status")
def status() -> Response:
    """Numbers and small charts of how things stand."""
    now = _standing()
    if now is None:
        return _html(render_template("status.html", now=None, words=NO_DATABASE), 503)
    since_us = _first_us(now)
    text = render_template(
        "status.html",
        now=now,
        words=summary(now),
        charts=_charts(now, since_us),
        lately=duration((now.now_us - since_us) / 1e6),
        bars=None if now.latency is None else _bars(now),
        number=number,
        reasons=REASONS,
        duration=duration,
        seconds=_short,
        moment=moment,
        size=size,
        span=span,
    )
    return _html(text)


@pages.get("/status.json")
def status_json() -> tuple[Response, int]:
    """The same for programs."""
    now = _standing()
    if now is None:
        return jsonify({"error": "ServiceUnavailable", "message": NO_DATABASE.headline}), 503
    response = jsonify(dataclasses.asdict(now))
    response.headers["Cache-Control"] = f"public, max-age={FRESH_SECONDS:.0f}"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response, 200


@pages.get("/check")
def check() -> Response:
    """How complete the feed of one account is, as far as that may be told."""
    ours = service()
    account = request.args.get("account", "").strip()
    answer, code = None, 200
    if account:
        window = Window.at(_now_us(), ours.config.backfill_days, ours.config.retention_days)
        try:
            answer = ours.checks.answer(account, window)
        except DatabaseError:
            answer = Answer(account, "busy")
        code = _STATUS_OF_CHECK.get(answer.kind, 200)
    now = _standing()
    words = NO_DATABASE if now is None else summary(now)
    text = render_template(
        "check.html",
        account=account,
        answer=answer,
        words=words,
        first_feed=f"https://bsky.app/profile/{ours.config.publisher_did}/feed/{ours.feeds[0].rkey}",
        moment=moment,
        reasons=REASONS,
    )
    response = _html(text, code)
    response.headers["Cache-Control"] = "private, no-store"
    # Handles that somebody typed are not for search engines.
    response.headers["X-Robots-Tag"] = "noindex"
    return response


@pages.get("/avatar/<rkey>")
def avatar(rkey: str) -> Response:
    """A feed's picture, as it is published."""
    feed = next((feed for feed in service().feeds if feed.rkey == rkey), None)
    path = None if feed is None else _avatar_file(feed)
    if path is None:
        abort(404)
    return send_file(path, mimetype=_AVATAR_TYPES[path.suffix], max_age=86_400)


def _avatar_file(feed: Feed) -> Path | None:
    files = (AVATARS / f"{feed.rkey}{suffix}" for suffix in _AVATAR_TYPES)
    return next((file for file in files if file.is_file()), None)


def _standing() -> Standing | None:
    try:
        return service().standings.get()
    except DatabaseError:
        return None


def _first_us(now: Standing) -> int:
    """Where charts begin: an hour ago, or with the first sample of a service that is younger."""
    hour_ago_us = now.now_us - KEPT_SECONDS * 1_000_000
    first_us = now.history[0].at_us if now.history else hour_ago_us
    return max(hour_ago_us, min(first_us, now.now_us - 60_000_000))


def _charts(now: Standing, from_us: int) -> dict[str, charts.Chart | None]:
    lags = [(one.at_us, one.lag_ms / 1000) for one in now.history if one.lag_ms is not None]
    events = [(m.at_us, m.events_each_s) for m in now.history if m.events_each_s is not None]
    waiting = [(one.at_us, float(one.about_waiting)) for one in now.history]
    return {
        "lag": charts.line(lags, from_us, now.now_us, duration),
        "events": charts.line(events, from_us, now.now_us, lambda rate: f"{rate:,.0f}"),
        "waiting": charts.line(waiting, from_us, now.now_us, lambda count: number(round(count))),
    }


def _bars(now: Standing) -> list[charts.Bar]:
    assert now.latency is not None  # noqa: S101  for the type checker: the caller looked
    return charts.bars(now.latency.shares, [_short(edge) for edge in now.latency.within_s])


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:g} s"


def _html(text: str, code: int = 200) -> Response:
    response = Response(text, status=code, mimetype="text/html")
    response.headers["Cache-Control"] = f"public, max-age={FRESH_SECONDS:.0f}"
    if code == 503:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Retry-After"] = "5"
    return response


def _now_us() -> int:
    return time.time_ns() // 1000
