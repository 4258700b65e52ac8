"""What a request says, and what answers mean, over real sockets."""

import gzip
import threading
import time
import tracemalloc

import pytest

from server.core.errors import FetchFailed, NotFound
from server.identity.fetcher import Fetcher
from tests.identity.wire import get, read_request, respond


def test_a_request_says_who_asks_and_nothing_more(fetcher, serve, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen = []
    server = serve(respond(body=b'{"a":1}', headers=["Set-Cookie: id=7"], requests=seen, keep=True))
    for _ in range(2):
        assert get(fetcher, server, repo="did:x", cursor="a&b c") == {"a": 1}
    # The connection is used again.
    assert server.connections == 1
    lines = [request.decode().split("\r\n") for request in seen]
    assert lines[0][0] == "GET /x?repo=did%3Ax&cursor=a%26b+c HTTP/1.1"
    assert "User-Agent: Gapless/test (+https://feed.example.com)" in lines[0]
    for word in ("cookie", "authorization", "proxy"):
        assert word not in b"".join(seen).lower().decode()


def test_a_connection_that_the_host_closed_meanwhile_is_replaced(fetcher, serve):
    def once(connection):
        respond()(connection)

    server = serve(once)
    for _ in range(5):
        assert get(fetcher, server) == {}
    assert server.connections == 5


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(fetcher, serve, status):
    target = serve(respond())
    server = serve(respond(status, headers=[f"Location: http://127.0.0.1:{target.port}/"]))
    with pytest.raises(FetchFailed, match="redirects"):
        get(fetcher, server)
    assert target.connections == 0


@pytest.mark.attack("strangers' servers")
def test_the_body_of_a_redirect_is_not_read(fetcher, serve):
    bomb = gzip.compress(b" " * 60_000_000, compresslevel=1)
    headers = ["Location: https://a.example.com/", "Content-Encoding: gzip"]
    server = serve(respond("302 Found", bomb, headers))
    tracemalloc.start()
    with pytest.raises(FetchFailed, match="redirects"):
        get(fetcher, server)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (404, b"", ""),
        (404, b'{"error":"NotFound","message":"x"}', "NotFound"),
        (410, b'{"message":"DID not available"}', ""),
        (400, b'{"error":"RepoNotFound"}', "RepoNotFound"),
        (400, b'{"error":"RepoDeactivated"}', "RepoDeactivated"),
        (400, b'{"error":"RepoTakendown"}', "RepoTakendown"),
        (400, b'{"error":"RepoSuspended"}', "RepoSuspended"),
        (400, b'{"error":"RecordNotFound"}', "RecordNotFound"),
        (400, b'{"error":"InvalidRequest","message":"Could not find repo"}', "InvalidRequest"),
        (404, b'{"error":"a b\\n"}', ""),
        (404, b'{"error":["RepoNotFound"]}', ""),
        (404, b"x" * 1_000_000, ""),
    ],
)
def test_what_is_not_there_is_told_apart_from_failures(fetcher, serve, status, body, name):
    server = serve(respond(f"{status} X", body))
    with pytest.raises(NotFound) as caught:
        get(fetcher, server)
    assert caught.value.name == name
    assert caught.value.is_for_good == (status == 410)
    # Neither counts against the host.
    for _ in range(10):
        with pytest.raises(NotFound):
            get(fetcher, server)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":"ExpiredCursor"}'),
        (400, b"?"),
        (401, b""),
        (403, b""),
        (500, b""),
        (204, b""),
    ],
)
def test_other_statuses_are_failures(fetcher, serve, status, body):
    server = serve(respond(f"{status} X", body))
    with pytest.raises(FetchFailed, match=str(status)) as caught:
        get(fetcher, server)
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize(
    ("headers", "low_s", "high_s"),
    [
        (["Retry-After: 30"], 30, 30),
        (["Retry-After: 0"], 1, 1),
        (["Retry-After: 999999999999999999999"], 3600, 3600),
        (["Retry-After: soon"], 10, 10),
        (["Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"], 1, 1),
        (["Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"], 3600, 3600),
        ([], 10, 10),
        (["RateLimit-Reset: 77"], 77, 77),
        (["RateLimit-Reset: {in_100_s}"], 95, 101),
        (["RateLimit-Reset: 5", "Retry-After: 9"], 9, 9),
    ],
)
def test_a_host_that_says_429_is_left_alone_for_as_long_as_it_says(
    fetcher, serve, headers, low_s, high_s
):
    lines = [line.format(in_100_s=int(time.time()) + 100) for line in headers]
    server = serve(respond("429 Too Many", headers=lines))
    with pytest.raises(FetchFailed, match="429") as caught:
        get(fetcher, server)
    assert low_s <= caught.value.retry_after_s <= high_s
    with pytest.raises(FetchFailed, match="asked us to wait") as caught:
        get(fetcher, server)
    assert low_s - 5 <= caught.value.retry_after_s <= high_s
    assert server.connections == 1


def test_a_host_that_is_down_is_soon_not_asked_any_more(fetcher, serve):
    server = serve(respond("502 Bad"))
    for _ in range(5):
        with pytest.raises(FetchFailed, match="502"):
            get(fetcher, server)
    with pytest.raises(FetchFailed, match="failed 5 times in a row") as caught:
        get(fetcher, server)
    assert 0 < caught.value.retry_after_s <= 1
    assert server.connections == 5


def test_requests_to_one_host_at_once_are_bounded(serve):
    together = []
    lock = threading.Lock()
    now = [0]
    go_on = threading.Event()

    def handle(connection):
        with lock:
            now[0] += 1
            together.append(now[0])
        read_request(connection)
        go_on.wait(0.1)
        with lock:
            now[0] -= 1
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = serve(handle)
    fetcher = Fetcher(True, 2, user_agent="x")
    threads = [threading.Thread(target=get, args=(fetcher, server)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(together) == 6
    assert max(together) == 2
    fetcher.close()
