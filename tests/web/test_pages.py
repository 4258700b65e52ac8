"""What anybody may ask: who we are, whether we live, and what is answered to nonsense."""

import json
import re

import pytest

from tests.devnet.service import RKEYS
from tests.web.conftest import ON_SQLITE

pytestmark = ON_SQLITE

PAGES = ("/", "/status", "/check", "/status.json")
PLAIN = ("/health", "/ready", "/xrpc/_health", "/.well-known/did.json", "/.well-known/atproto-did")
DESCRIBE = "/xrpc/app.bsky.feed.describeFeedGenerator"


def test_describe_feed_generator_has_the_exact_shape(site):
    answer = site.get(DESCRIBE)
    uris = [{"uri": site.reader.uri(r)} for r in RKEYS]
    assert answer.status == 200
    assert answer.json() == {"did": site.service.did, "feeds": uris}


def test_the_did_document_has_the_exact_shape_and_no_redirect(site):
    answer = site.get("/.well-known/did.json")
    assert answer.status == 200
    assert answer.json() == {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": site.service.did,
        "service": [
            {
                "id": "#bsky_fg",
                "type": "BskyFeedGenerator",
                "serviceEndpoint": f"http://localhost:{site.service.port}",
            }
        ],
    }


def test_the_handle_document_is_the_bare_did(site):
    answer = site.get("/.well-known/atproto-did")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.decode() == site.reader.publisher.did


def test_health_says_version_and_little_else(site):
    assert re.fullmatch(r"\d+\.\d+\.\d+", site.get("/xrpc/_health").json()["version"])
    assert site.get("/health").json() == {"status": "ok"}
    assert site.get("/ready").json() == {"status": "ready"}


def test_the_home_page_loads_nothing_from_anywhere(site):
    answer = site.get("/")
    text = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "http" not in text.replace("https://bsky.app/profile/", "")
    assert "url(" not in text
    for rkey in ("following", "everything", "posts-only"):
        assert f"/feed/{rkey}" in text


@pytest.mark.parametrize("path", [DESCRIBE, *PAGES, *PLAIN])
def test_head_is_get_without_a_body(site, path):
    head, get = site.ask("HEAD", path), site.get(path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/xrpc", 404),
        ("GET", "/.well-known/nothing", 404),
        ("GET", "/static/x.js", 404),
        ("GET", "/%00", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/.well-known//did.json", 404),
        ("GET", "/xrpc//app.bsky.feed.getFeedSkeleton", 404),
        ("GET", "/<script>alert(1)</script>", 404),
        ("GET", "/nothing?" + "x" * 2000, 404),
        ("POST", "/", 405),
        ("POST", "/.well-known/did.json", 405),
        ("DELETE", DESCRIBE, 405),
        ("PUT", "/xrpc/app.bsky.feed.sendInteractions", 405),
        ("TRACE", "/", 405),
        ("GET", "/xrpc/app.bsky.feed.getTimeline", 501),
        ("POST", "/xrpc/com.atproto.repo.createRecord", 501),
        ("GET", "/xrpc/x/y/z", 501),
    ],
)
def test_refusals_are_xrpc_errors_in_json(site, method, path, status):
    answer = site.ask(method, path)
    assert answer.error()[0] == status
    assert b"<" not in answer.body.replace(b"<path", b"")
    if status == 405:
        assert answer.headers["allow"]
    if status == 501:
        assert answer.error() == (501, "MethodNotImplemented")


@pytest.mark.parametrize(
    "path", ["/xrpc/app.bsky.feed.getFeedSkeleton", "/xrpc/app.bsky.feed.describeFeedGenerator"]
)
def test_a_query_by_post_is_refused(site, path):
    assert site.ask("POST", path, body=b"{}").error()[0] in (405, 501)


def test_options_names_the_methods(site):
    answer = site.ask("OPTIONS", DESCRIBE)
    assert answer.status == 200
    assert "GET" in answer.headers["allow"]


def test_no_version_of_what_we_run_on_is_told(site):
    for path in ("/", "/nothing", *PLAIN):
        assert "server" not in site.get(path).headers
        assert not set(site.get(path).headers) & {"x-powered-by", "set-cookie"}


def test_answers_carry_no_null_and_no_odd_characters(site):
    answer = site.get(DESCRIBE)
    assert b"null" not in answer.body
    assert json.loads(answer.body.decode("ascii"))
