"""What an ordinary client makes of answers that are not what they should be."""

import pytest

from server.commands.asking import ask_json, ask_time
from server.core.errors import FetchFailed, NotFound
from tests.identity.conftest import serve
from tests.identity.wire import respond

__all__ = ["serve"]


def url_of(server):
    return f"http://127.0.0.1:{server.port}/x"


def test_an_object_is_what_is_asked_for(serve):
    seen = []
    server = serve(respond(body=b'{"a": 1}', requests=seen))
    assert ask_json(url_of(server), "Doctor/1", {"b": "c d"}) == {"a": 1}
    assert seen[0].startswith(b"GET /x?b=c+d HTTP/1.1\r\n")
    assert b"User-Agent: Doctor/1\r\n" in seen[0]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("301 Moved", b"", "redirects to https://elsewhere.example.com/"),
        ("500 Broken", b"{}", "answers 500"),
        ("200 OK", b"<html>", "is not JSON"),
        ("200 OK", b"[]", "is no object"),
    ],
)
def test_anything_else_is_named(serve, status, body, words):
    server = serve(respond(status, body, ["Location: https://elsewhere.example.com/"]))
    with pytest.raises(FetchFailed, match=words) as caught:
        ask_json(url_of(server), "x")
    assert not isinstance(caught.value, NotFound)


def test_what_is_not_there_is_not_a_failure_of_the_host(serve):
    for status in ("400 Bad", "404 Not"):
        with pytest.raises(NotFound):
            ask_json(url_of(serve(respond(status))), "x")


def test_no_answer_is_told_in_words(serve, monkeypatch):
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1:9: no connection"):
        ask_json("http://127.0.0.1:9/", "x")
    server = serve(lambda connection: connection.recv(1000))
    with pytest.raises(FetchFailed, match="no connection"):
        ask_json(url_of(server), "x")
    monkeypatch.setattr("server.commands.asking.TIMEOUT_SECONDS", 0.2)
    silent = serve(lambda connection: silent.stop.wait(3))
    with pytest.raises(FetchFailed, match="no answer within"):
        ask_json(url_of(silent), "x")


def test_a_server_without_a_clock_says_no_time(serve):
    assert ask_time(url_of(serve(respond())), "x") is None
    assert ask_time(url_of(serve(respond(headers=["Date: soon"]))), "x") is None
    dated = serve(respond(headers=["Date: Sun, 09 Sep 2001 01:46:40 GMT"]))
    assert ask_time(url_of(dated), "x").timestamp() == 1_000_000_000
