"""Which addresses and which URLs are fetched from."""

import socket
import threading
import time

import pytest

from server.core.errors import FetchFailed
from server.identity import dial
from server.identity.dial import (
    MAX_ADDRESSES,
    Dialler,
    PrivateAddress,
    is_public_address,
)
from server.identity.fetcher import Fetcher
from server.identity.hosts import BREAKER_FAILURES
from server.identity.urls import checked_host

PRIVATE = [
    "0.0.0.0",  # noqa: S104
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450::1"]


def answer(*addresses, port=443):
    families = [socket.AF_INET6 if ":" in text else socket.AF_INET for text in addresses]
    return [
        (family, socket.SOCK_STREAM, 6, "", (text, port))
        for family, text in zip(families, addresses, strict=True)
    ]


@pytest.fixture
def dialled(monkeypatch):
    """The addresses that were dialled; every one of them refuses."""
    found = []

    def connect(sock, address):
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


def test_only_addresses_of_the_open_internet_are_public():
    assert [text for text in PRIVATE if is_public_address(text)] == []
    assert [text for text in PUBLIC if not is_public_address(text)] == []


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.1"])
def test_one_private_address_among_many_forbids_them_all(dialled, private):
    dialler = Dialler(False, lambda host, port: answer("1.1.1.1", "2606:4700::1", private))
    with pytest.raises(PrivateAddress):
        dialler.dial("evil.example.com", 443, 1.0)
    assert dialled == []


@pytest.mark.attack("strangers' servers")
def test_the_address_that_was_checked_is_the_one_that_is_dialled(dialled):
    answers = [answer("1.1.1.1"), answer("127.0.0.1"), answer("127.0.0.1")]
    dialler = Dialler(False, lambda host, port: answers.pop(0))
    with pytest.raises(ConnectionRefusedError):
        dialler.dial("rebinding.example.com", 443, 1.0)
    assert dialled == [("1.1.1.1", 443)]
    assert len(answers) == 2
    with pytest.raises(PrivateAddress):
        dialler.dial("rebinding.example.com", 443, 1.0)
    assert len(dialled) == 1


@pytest.mark.attack("strangers' servers")
def test_a_request_to_a_name_that_changes_its_address_ends_the_same_way(dialled):
    answers = [answer("1.1.1.1"), answer("127.0.0.1")]
    fetcher = Fetcher(False, user_agent="x", resolve=lambda host, port: answers.pop(0))
    for words in ("no connection", "not public"):
        with pytest.raises(FetchFailed, match=words):
            fetcher.get_json("https://rebind.example.com/x", deadline_s=1, max_bytes=10)
    assert dialled == [("1.1.1.1", 443)]
    fetcher.close()


@pytest.mark.attack("strangers' servers")
def test_a_long_list_of_addresses_is_not_worked_through(dialled):
    many = [f"1.1.1.{number}" for number in range(1, 200)]
    with pytest.raises(ConnectionRefusedError):
        Dialler(False, lambda host, port: answer(*many)).dial("a.example.com", 443, 1.0)
    assert len(dialled) == MAX_ADDRESSES


def test_the_next_address_is_tried_when_one_refuses(serve):
    server = serve(lambda connection: connection.recv(1))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        closed_port = closed.getsockname()[1]
    found = answer("127.0.0.1", port=closed_port) + answer("127.0.0.1", port=server.port)
    with Dialler(True, lambda host, port: found).dial("a.example.com", 443, 1.0) as sock:
        assert sock.getpeername()[1] == server.port


def test_names_that_do_not_resolve_are_failures_like_any_other():
    def unknown(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    for resolve in (unknown, lambda host, port: []):
        fetcher = Fetcher(False, user_agent="x", resolve=resolve)
        with pytest.raises(FetchFailed, match=r"a\.example\.com: its name cannot be resolved"):
            fetcher.get_json("https://a.example.com/", deadline_s=1, max_bytes=10)
        fetcher.close()


@pytest.fixture
def hanging(monkeypatch):
    """A resolver that says nothing of `slow.…` until `gate` is set, when one look-up is allowed."""
    monkeypatch.setattr(dial, "MAX_LOOKUPS", 1)
    gate, begun = threading.Event(), threading.Event()

    def resolve(host, port):
        if host.startswith("slow."):
            begun.set()
            gate.wait(10)
        raise socket.gaierror(-2, "Name or service not known")

    fetcher = Fetcher(False, user_agent="x", resolve=resolve)

    def ask(host, deadline_s):
        fetcher.get_json(f"https://{host}/", deadline_s=deadline_s, max_bytes=10)

    def ask_slow():
        with pytest.raises(FetchFailed):
            ask("slow.example.com", 10)

    thread = threading.Thread(target=ask_slow)
    thread.start()
    assert begun.wait(5)
    yield gate, ask
    gate.set()
    thread.join()
    fetcher.close()


def test_a_name_waits_for_a_place_among_the_look_ups(hanging):
    gate, ask = hanging
    threading.Timer(0.1, gate.set).start()
    with pytest.raises(FetchFailed, match="its name cannot be resolved"):
        ask("a.example.com", 5)


def test_to_wait_for_a_place_takes_no_longer_than_the_deadline_and_is_no_fault_of_the_host(hanging):
    gate, ask = hanging
    began = time.monotonic()
    for _ in range(BREAKER_FAILURES + 1):
        with pytest.raises(FetchFailed, match="too many name look-ups"):
            ask("a.example.com", 0.02)
    assert time.monotonic() - began < 3
    gate.set()
    with pytest.raises(FetchFailed, match="its name cannot be resolved"):
        ask("a.example.com", 5)


@pytest.mark.attack("addresses")
@pytest.mark.parametrize(
    "url",
    [
        "http://pds.example.com/",
        "https://pds.example.com:8443/",
        "https://pds.example.com:443@evil.example.com/",
        "https://user@pds.example.com/",
        "https://user:pw@pds.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://single/",
        "https://a.localhost/",
        "https://printer.local/",
        "https://metadata.internal/",
        "https://1.0.0.127.in-addr.arpa/",
        "https://xyz.onion/",
        "https://pds.example.com./",
        "https://PDS.example.com/",
        "https://pds.example.com\\@evil.example.com/",
        "https://pds.example.com/\n",
        "https://pds.example.com/a b",
        "https://pds.example.com/?q",
        "https://pds.example.com/#f",
        "https:///pds.example.com/",
        "https://pds.example.com:/",
        "https://pds.example.com:99999/",
        "https://[::1/",
        "https://pds_x.example.com/",
        "https://пример.example.com/",
        "file:///etc/passwd",
        "ftp://pds.example.com/",
        "//pds.example.com/",
        "",
        "https://pds.example.com/" + "a" * 5000,
    ],
)
def test_an_address_that_is_not_a_public_https_host_is_never_dialled(dialled, url):
    def resolve(host, port):
        raise AssertionError(host)

    fetcher = Fetcher(False, user_agent="x", resolve=resolve)
    with pytest.raises(FetchFailed, match="not fetched"):
        fetcher.get_json(url, deadline_s=1, max_bytes=10)
    assert dialled == []
    fetcher.close()


def test_ordinary_addresses_are_fetched():
    plc = "https://plc.directory/did:plc:" + "a" * 24
    assert checked_host(plc, False) == "plc.directory"
    assert checked_host("https://pds.example.com", False) == "pds.example.com"
    assert checked_host("https://pds.example.com:443/xrpc/a.b.c", False) == "pds.example.com:443"


def test_test_networks_may_be_anywhere():
    for url, host in (
        ("http://localhost:2583/x", "localhost:2583"),
        ("http://127.0.0.1:80", "127.0.0.1:80"),
        ("http://[::1]:99/", "[::1]:99"),
        ("https://pds.test/", "pds.test"),
    ):
        assert checked_host(url, True) == host
    for url in ("ftp://a.b/", "http://u@a.b/", "http://a.b/?q", "http://a b/"):
        with pytest.raises(FetchFailed):
            checked_host(url, True)
