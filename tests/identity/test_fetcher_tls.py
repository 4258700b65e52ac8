"""The fetcher and TLS."""

import time

import pytest

from server.core.errors import FetchFailed
from tests.identity.wire import SHORT_S, assert_late, read_request, respond


def test_tls_asks_for_and_verifies_the_host_name(tls):
    server, fetcher = tls(respond(keep=True))
    for _ in range(2):
        assert fetcher.get_json("https://pds.example.com/x", deadline_s=5, max_bytes=10) == {}
    assert server.connections == 1
    assert server.names == ["pds.example.com"]
    with pytest.raises(FetchFailed, match="certificate is not valid"):
        fetcher.get_json("https://other.example.com/x", deadline_s=5, max_bytes=10)


def test_a_certificate_of_unknown_origin_is_refused(tls):
    _, fetcher = tls(respond(), ca_file=None)
    with pytest.raises(FetchFailed, match="certificate is not valid"):
        fetcher.get_json("https://pds.example.com/x", deadline_s=5, max_bytes=10)


def test_a_body_that_drips_through_tls_does_not_hold_us_either(tls):
    def handle(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while not server.stop.wait(0.05):
            connection.sendall(b"a")

    server, fetcher = tls(handle)
    url = "https://pds.example.com/x"
    assert_late(lambda: fetcher.get_json(url, deadline_s=SHORT_S, max_bytes=10_000))


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_tls_connection_that_the_host_closed_meanwhile_is_replaced(tls, says_goodbye):
    def once(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        if says_goodbye:
            connection.settimeout(0.2)
            connection.unwrap()

    server, fetcher = tls(once)
    for _ in range(5):
        assert fetcher.get_json("https://pds.example.com/x", deadline_s=5, max_bytes=10) == {}
        time.sleep(0.05)
    assert server.connections == 5
