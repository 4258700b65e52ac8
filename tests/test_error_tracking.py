"""Errors are reported where SENTRY_DSN says, without anything about who asked."""

import gzip
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sentry_sdk

from server.core.errors import ConfigError
from server.core.request_id import request_id
from server.error_tracking import start_error_tracking

TOKEN = "Bearer eyJhbGciOiJFUzI1NksifQ"  # noqa: S105


class Collector(BaseHTTPRequestHandler):
    """Takes reports as Sentry does."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_packed = self.headers["Content-Encoding"] == "gzip"
        self.server.reports.append(gzip.decompress(body) if is_packed else body)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.reports = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    sentry_sdk.get_client().close(timeout=5)
    sentry_sdk.init()
    server.shutdown()
    thread.join()
    server.server_close()


def fail(_authorization):
    raise RuntimeError("broken")


def test_what_is_logged_as_an_error_is_reported_and_nothing_about_who_asked(collector):
    start_error_tracking(f"http://key@127.0.0.1:{collector.server_port}/1", "1.2.3")
    log = logging.getLogger("server.test")
    log.warning("only %s", "warned")
    mark = request_id.set("r-1")
    try:
        fail(TOKEN)
    except RuntimeError:
        log.exception("unexpected error")
    finally:
        request_id.reset(mark)
    sentry_sdk.flush(timeout=10)
    report = b"\n".join(collector.reports).decode()
    assert "unexpected error" in report
    assert "gapless@1.2.3" in report
    assert '"request":"r-1"' in report.replace(" ", "")
    assert TOKEN not in report
    assert "only warned" not in report


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigError, match="pip install"):
        start_error_tracking("https://key@sentry.example/1", "1")
    start_error_tracking(None, "1")


def test_a_wrong_dsn_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="SENTRY_DSN"):
        start_error_tracking("https://sentry.example", "1")
