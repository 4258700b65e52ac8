"""Handles: both sides must say so, and DNS has the last word where it says anything."""

import dns.rcode
import pytest

from server.core.errors import FetchFailed, NotFound
from server.identity.fetcher import Fetcher
from server.identity.handles import Handles
from server.identity.txt_records import TxtRecords, system_resolvers
from tests.identity.builders import ALICE, make_document
from tests.identity.wire import SHORT_S, respond

# What the certificate of the tests is for.
HANDLE = "pds.example.com"
EVE = "did:plc:" + "e" * 24


@pytest.fixture
def handles(directory, dns_server, tls):
    """Handles of accounts that call themselves HANDLE; HTTPS answers with `host`, if anything."""
    for did in (ALICE, EVE):
        directory.documents[did] = make_document(did, alsoKnownAs=[f"at://{HANDLE}"])

    def make(host: bytes | None = None, resolvers=dns_server.resolvers, **options) -> Handles:
        answer = respond("404 Not Found") if host is None else respond(body=host)
        _, fetcher = tls(answer)
        options = {"allow_test_names": False} | options
        return Handles(fetcher, directory, TxtRecords(resolvers), **options)

    return make


def refuse(handles, handle=HANDLE, deadline_s=5.0):
    with pytest.raises(FetchFailed) as caught:
        handles.resolve(handle, deadline_s)
    return caught.value


def test_dns_alone_proves_a_handle(handles, dns_server):
    dns_server.prove(HANDLE, f"did={ALICE}")
    assert handles().resolve(HANDLE, 5).did == ALICE
    assert [name for name, _ in dns_server.asked] == [f"_atproto.{HANDLE}"]


def test_https_alone_proves_a_handle(handles):
    assert handles(ALICE.encode() + b"\n").resolve(HANDLE, 5).did == ALICE


def test_where_they_differ_dns_has_the_last_word(handles, dns_server):
    dns_server.prove(HANDLE, f"did={ALICE}")
    assert handles(EVE.encode()).resolve(HANDLE, 5).did == ALICE


@pytest.mark.parametrize("host", [None, ALICE.encode()])
def test_the_account_has_to_say_so_too(handles, dns_server, directory, host):
    if host is None:
        dns_server.prove(HANDLE, f"did={ALICE}")
    found = handles(host)
    directory.documents[ALICE] = make_document(ALICE, alsoKnownAs=["at://another.example.com"])
    error = refuse(found)
    assert isinstance(error, NotFound)
    assert "does not call itself" in str(error)
    directory.documents[ALICE] = FetchFailed("the directory is down")
    assert not isinstance(refuse(found), NotFound)


def test_other_texts_are_ignored_and_the_same_twice_is_once(handles, dns_server):
    texts = ("v=spf1 -all", "DID=x", f" did={EVE}", EVE, f"did={ALICE}", b"\xff\xfe\0")
    dns_server.prove(HANDLE, *texts)
    dns_server.say(f"_atproto.{HANDLE}", "TXT", f'"did=" "{ALICE}"')
    assert handles().resolve(HANDLE, 5).did == ALICE


NO_DIDS = (
    *("", "did:plc:short", "did:key:zabc", "did:web:a.b:c", "did:plc:ü", "\0"),
    *(ALICE.upper(), f"{ALICE} ", f" {ALICE}", f"{ALICE}\n"),
)


@pytest.mark.parametrize("value", NO_DIDS)
def test_what_is_no_did_is_ignored_like_other_texts(handles, dns_server, value):
    dns_server.prove(HANDLE, f"did={value}")
    assert isinstance(refuse(handles()), NotFound)
    assert handles(EVE.encode()).resolve(HANDLE, 5).did == EVE
    dns_server.prove(HANDLE, f"did={ALICE}")
    assert handles(EVE.encode()).resolve(HANDLE, 5).did == ALICE


def test_two_accounts_in_dns_prove_neither_whatever_the_host_says(handles, dns_server):
    dns_server.prove(HANDLE, f"did={ALICE}", f"did={EVE}")
    error = refuse(handles(ALICE.encode()))
    assert isinstance(error, NotFound)
    assert "names 2 accounts" in str(error)


def test_a_host_that_is_not_there_means_nobody_only_if_dns_said_so(handles, dns_server):
    assert isinstance(refuse(handles()), NotFound)
    dns_server.rcode = dns.rcode.SERVFAIL
    error = refuse(handles())
    assert not isinstance(error, NotFound)
    assert "SERVFAIL" in str(error)


def test_dns_that_fails_does_not_hide_what_the_host_proves(handles, dns_server, tmp_path):
    dns_server.rcode = dns.rcode.SERVFAIL
    assert handles(ALICE.encode()).resolve(HANDLE, 5).did == ALICE
    dns_server.misbehave = lambda *_: []
    assert handles(ALICE.encode()).resolve(HANDLE, SHORT_S).did == ALICE

    def missing():
        return system_resolvers(tmp_path / "resolv.conf")

    assert handles(ALICE.encode(), missing).resolve(HANDLE, 5).did == ALICE
    assert "resolv.conf cannot be read" in str(refuse(handles(None, missing)))


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"did:plc:short", "did:plc:ü".encode()])
def test_a_host_that_names_no_did_proves_no_handle(handles, body):
    refuse(handles(body))


RESERVED = ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test")


@pytest.mark.parametrize("ending", RESERVED)
def test_names_that_are_reserved_are_asked_of_nobody(handles, dns_server, directory, ending):
    found = handles(ALICE.encode())
    dns_server.prove(f"ann.{ending}", f"did={ALICE}")
    error = refuse(found, f"ann.{ending}")
    assert isinstance(error, NotFound)
    assert "reserved" in str(error)
    assert dns_server.asked == directory.asked == []


def test_a_network_for_tests_has_names_of_its_own(handles, dns_server, directory):
    directory.documents[ALICE] = make_document(ALICE, alsoKnownAs=["at://ann.test"])
    dns_server.prove("ann.test", f"did={ALICE}")
    assert handles(allow_test_names=True).resolve("ann.test", 5).did == ALICE
    assert "reserved" in str(refuse(handles(allow_test_names=True), "ann.local"))


def test_a_did_is_looked_up_as_it_is(handles, dns_server):
    assert handles().find(ALICE, 5).did == ALICE
    dns_server.prove(HANDLE, f"did={EVE}")
    assert handles().find(HANDLE, 5).did == EVE
    assert len(dns_server.asked) == 1


def test_a_host_that_is_private_is_not_asked(dns_server, directory):
    fetcher = Fetcher(
        False, user_agent="x", resolve=lambda host, port: [(2, 1, 6, "", ("10.0.0.1", port))]
    )
    found = Handles(fetcher, directory, TxtRecords(dns_server.resolvers), allow_test_names=False)
    assert "not public" in str(refuse(found))
