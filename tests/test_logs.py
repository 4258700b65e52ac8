"""A line of the log says what happened, in which request, and no secrets."""

import json
import logging

import pytest

from server.core.request_id import choose_id, request_id
from server.logs import JsonFormatter, TextFormatter
from simnet import Network, PatientClock
from tests.system.databases import SqliteFile
from tests.web.conftest import make_site

SECRET_TEXT = "zanzibar-marmalade"  # noqa: S105
ADMIN_TOKEN = "operators-own-0123456789"  # noqa: S105


def record():
    return logging.LogRecord("server.x", logging.INFO, "x.py", 1, "went %s", ("well",), None)


def test_lines_of_a_request_carry_its_name():
    assert "request" not in TextFormatter().format(record())
    mark = request_id.set("abc")
    try:
        assert TextFormatter().format(record()).endswith("went well request=abc")
        assert json.loads(JsonFormatter().format(record()))["request"] == "abc"
    finally:
        request_id.reset(mark)
    assert "request" not in json.loads(JsonFormatter().format(record()))


@pytest.mark.parametrize("proposed", [None, "", "a b", "x\nlevel=error", "é", "x" * 65, '"'])
def test_a_name_that_could_forge_lines_is_replaced(proposed):
    chosen = choose_id(proposed)
    assert chosen != proposed
    assert len(chosen) == 16


def test_a_plain_name_is_kept():
    assert choose_id("01J-Proxy_7.a") == "01J-Proxy_7.a"


def test_what_a_server_says_of_itself_is_one_line_and_moves_no_cursor():
    said = "x\n2026-01-01T00:00:00.000Z ERROR server.x: forged\x1b[2J\u2028"
    told = logging.LogRecord("server.x", logging.INFO, "x.py", 1, "name=%s", (said,), None)
    line = TextFormatter().format(told)
    assert line.isprintable()
    assert line.endswith("name=x 2026-01-01T00:00:00.000Z ERROR server.x: forged [2J ")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_token_and_no_text_of_a_post_is_logged_at_any_level(tmp_path, log_format):
    with Network(seed=23, pds=2, clock=PatientClock()) as net:
        database = SqliteFile(tmp_path / "feeds.db")
        settings = {"LOG_FORMAT": log_format, "LOG_LEVEL": "DEBUG", "ADMIN_TOKEN": ADMIN_TOKEN}
        site = make_site(net, database, tmp_path, **settings)
        feed = f"/xrpc/app.bsky.feed.getFeedSkeleton?feed={site.reader.uri()}"
        tokens = [
            site.token(),
            site.token(payload={"exp": 1}),
            site.token(aud="did:web:x"),
            "Bearer nonsense-but-secret",
        ]
        try:
            site.service.start()
            author = net.create_account("talker")
            author.post(SECRET_TEXT)
            site.viewer.follow(author)
            author.post(SECRET_TEXT)
            site.reader.settle(site.viewer, database=database)
            for token in tokens:
                answer = site.get(feed, **{"Authorization": token, "X-Request-Id": "from-proxy"})
                assert answer.headers["x-request-id"] == "from-proxy"
            site.get("/metrics", Authorization=f"Bearer {ADMIN_TOKEN}")
            site.get("/metrics", Authorization="Bearer wrong-but-secret")
            assert site.service.stop() == 0
        finally:
            site.service.end()
    text = site.service.log_path.read_text()
    assert "token refused" in text
    assert text.count("from-proxy") >= 3
    for token in tokens:
        assert token.removeprefix("Bearer ") not in text
        assert token.rpartition(".")[2] not in text
    for secret in (SECRET_TEXT, ADMIN_TOKEN, "wrong-but-secret"):
        assert secret not in text
