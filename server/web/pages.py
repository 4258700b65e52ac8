"""The page for people: which feeds there are, and how to open them in the app."""

from flask import Blueprint, Response, render_template

from server.web.xrpc import service

pages = Blueprint("pages", __name__, template_folder="templates")

# Nothing is loaded from anywhere, and nobody frames the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


@pages.get("/")
def home() -> Response:
    """What this is, for whoever comes with a browser."""
    ours = service()
    links = [
        (feed, f"https://bsky.app/profile/{ours.config.publisher_did}/feed/{feed.rkey}")
        for feed in ours.feeds
    ]
    text = render_template("home.html", links=links, is_local_trial=ours.config.is_local_trial)
    response = Response(text, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
