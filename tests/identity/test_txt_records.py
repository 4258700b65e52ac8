"""TXT records by real datagrams and connections: what is there, what is not, and whom we ask."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from server.core.errors import FetchFailed, NotFound
from server.identity.txt_records import (
    ResolverAddress,
    TxtRecords,
    system_resolvers,
)
from tests.dns_server import TCP, UDP, DnsServer, quoted
from tests.identity.wire import SLACK_S

NAME = "_atproto.ann.example.com"


@pytest.fixture
def dead():
    """A resolver that swallows what it is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield ResolverAddress(*sock.getsockname())


def closed_port():
    """A resolver that is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return ResolverAddress(*sock.getsockname())


def test_texts_are_read_and_those_of_one_record_are_joined(dns_server, ask):
    dns_server.say(NAME, "TXT", '"did=" "did:plc:" "x"', '"v=spf1 -all"')
    assert sorted(ask()) == [b"did=did:plc:x", b"v=spf1 -all"]
    assert dns_server.asked == [(NAME, UDP)]


def test_texts_may_be_any_bytes(dns_server, ask):
    odd = bytes(range(0, 256, 3))
    dns_server.say(NAME, "TXT", quoted(odd))
    assert ask() == [odd]


def test_what_is_not_there_is_told_from_what_is_not_known(dns_server, ask):
    with pytest.raises(NotFound):
        ask()
    # Nor is the name tried in any other domain.
    assert dns_server.asked == [(NAME, UDP)]
    dns_server.say(NAME, "TXT")
    with pytest.raises(NotFound):
        ask()
    for rcode in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP):
        dns_server.rcode = rcode
        with pytest.raises(FetchFailed, match=dns.rcode.to_text(rcode)) as caught:
            ask()
        assert not isinstance(caught.value, NotFound)


def test_an_alias_is_followed_and_a_loop_of_them_is_not(dns_server, ask):
    dns_server.say(NAME, "CNAME", "b.example.com.")
    dns_server.say("b.example.com", "CNAME", "c.example.com.")
    dns_server.say("c.example.com", "TXT", '"found"')
    assert ask() == [b"found"]
    dns_server.say("loop.example.com", "CNAME", "pool.example.com.")
    dns_server.say("pool.example.com", "CNAME", "loop.example.com.")
    with pytest.raises(FetchFailed, match="cannot be read") as caught:
        ask("loop.example.com")
    assert not isinstance(caught.value, NotFound)


def test_a_chain_of_aliases_has_an_end(dns_server, ask):
    for link in range(20):
        dns_server.say(f"a{link}.example.com", "CNAME", f"a{link + 1}.example.com.")
    dns_server.say("a20.example.com", "TXT", '"far away"')
    assert ask("a10.example.com") == [b"far away"]
    with pytest.raises(FetchFailed, match="cannot be read"):
        ask("a0.example.com")


def test_a_long_answer_comes_over_tcp(dns_server, ask):
    texts = [f"text {number}" for number in range(100)]
    dns_server.say(NAME, "TXT", *map(quoted, texts))
    assert sorted(ask()) == sorted(text.encode() for text in texts)
    assert dns_server.asked == [(NAME, UDP), (NAME, TCP)]


def test_a_resolver_that_is_dead_leaves_time_for_the_next(dns_server, ask, dead):
    dns_server.say(NAME, "TXT", '"found"')
    began = time.monotonic()
    assert ask(deadline_s=2.0, resolvers=[dead, dns_server.resolver]) == [b"found"]
    assert time.monotonic() - began < 1.5


def test_resolvers_that_are_not_there_are_noticed_at_once(ask):
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="no connection"):
        ask(deadline_s=30, resolvers=[closed_port(), closed_port()])
    assert time.monotonic() - began < SLACK_S


def test_a_resolver_that_fails_is_not_the_last_word(dns_server, ask):
    failing = DnsServer()
    failing.rcode = dns.rcode.SERVFAIL
    dns_server.say(NAME, "TXT", '"found"')
    try:
        assert ask(resolvers=[failing.resolver, dns_server.resolver]) == [b"found"]
        assert failing.asked == [(NAME, UDP)]
    finally:
        failing.close()


def test_each_question_has_a_number_of_its_own(dns_server, ask):
    numbers = set()
    dns_server.misbehave = lambda question, transport: numbers.add(question.id)
    for _ in range(20):
        with pytest.raises(NotFound):
            ask()
    assert len(numbers) > 10


def test_a_name_too_long_for_dns_is_asked_of_nobody(dns_server, ask):
    label = "a" * 60
    with pytest.raises(NotFound, match="too long"):
        ask(f"_atproto.{label}.{label}.{label}.{label}.com")
    assert dns_server.asked == []


def test_threads_share_it(dns_server):
    records = TxtRecords(dns_server.resolvers)
    for number in range(20):
        dns_server.say(f"n{number}.example.com", "TXT", f'"{number}"')
    with ThreadPoolExecutor(10) as pool:
        found = pool.map(lambda n: records.look_up(f"n{n % 20}.example.com", 5), range(200))
    assert list(found) == [[str(number % 20).encode()] for number in range(200)]


def test_the_systems_resolvers_are_read_from_its_file(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\nsearch corp.example.com\noptions ndots:5\n"
        "nameserver 192.0.2.1\nnameserver\n  nameserver  2001:db8::1  # near\n"
        "nameserver 192.0.2.3\nnameserver 192.0.2.4\n"
    )
    hosts = [resolver.host for resolver in system_resolvers(path)]
    assert hosts == ["192.0.2.1", "2001:db8::1", "192.0.2.3"]


@pytest.mark.parametrize("text", [None, b"", b"search example.com\n", b"\xff\xfe\0"])
def test_without_resolvers_the_error_says_so_and_nobody_falls(tmp_path, text):
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_bytes(text)
    records = TxtRecords(lambda: system_resolvers(path))
    with pytest.raises(FetchFailed, match=r"DNS cannot be asked: .*resolv\.conf"):
        records.look_up(NAME, 5)


def test_a_resolver_with_a_name_is_a_failure_like_others(ask):
    with pytest.raises(FetchFailed, match="no connection"):
        ask(resolvers=[ResolverAddress("dns.example.com")])
