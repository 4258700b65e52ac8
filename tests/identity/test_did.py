"""DID documents, and where they are looked for."""

import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import FetchFailed, NotFound
from server.identity.did import (
    _ENDPOINT,
    MAX_DOCUMENT_BYTES,
    Directory,
    Identity,
    parse_document,
)
from server.identity.fetcher import Fetcher
from tests.fuzzing import fuzz

ALICE = "did:plc:" + "a" * 24
JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["#atproto", ALICE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "controller", "publicKeyMultibase", "serviceEndpoint"]),
            inner,
        )
    ),
    max_leaves=8,
)


def method(did, **changes):
    return {"id": "#atproto", "type": "Multikey", "controller": did} | changes


def pds_at(endpoint):
    return {
        "id": f"{ALICE}#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": endpoint,
    }


def test_a_document_tells_handle_pds_and_key(make):
    key = make.k256().multikey
    found = parse_document(ALICE, make.document(ALICE, key))
    assert found == Identity(ALICE, "alice.example.com", "https://pds.example.com", key)


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"id": ALICE.upper()}, {"id": "did:web:a.b"}, {"id": [ALICE]}]
)
def test_a_document_of_somebody_else_is_refused(document):
    with pytest.raises(FetchFailed) as caught:
        parse_document(ALICE, document)
    # Whoever asks whether the account is gone must not take this for a yes.
    assert not isinstance(caught.value, NotFound)


def test_the_first_key_with_the_id_counts_even_if_it_is_of_no_use(make):
    good, other = make.k256().multikey, make.p256().multikey

    def key_in(*methods):
        return parse_document(ALICE, make.document(verificationMethod=list(methods))).signing_key

    wanted = method(ALICE, publicKeyMultibase=good)
    assert key_in(method(ALICE, id="#other", publicKeyMultibase=other), wanted) == good
    assert key_in({**wanted, "id": f"{ALICE}#atproto"}) == good
    assert key_in(wanted, method(ALICE, publicKeyMultibase=other)) == good
    for useless in (
        method(ALICE),
        method(ALICE, publicKeyMultibase="zzz"),
        method(ALICE, publicKeyMultibase=[good]),
        method("did:web:evil.example.com", publicKeyMultibase=good),
        method(ALICE, type="JsonWebKey2020", publicKeyMultibase=good),
    ):
        assert key_in(useless, wanted) is None
    assert key_in("junk", 7, {"id": "did:web:evil.example.com#atproto"}) is None


@pytest.mark.parametrize(
    ("endpoint", "wanted"),
    [
        ("https://pds.example.com", "https://pds.example.com"),
        ("https://PDS.example.com/", "https://pds.example.com"),
        ("http://localhost:2583", "http://localhost:2583"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("https://pds.example.com/path", None),
        ("https://user@pds.example.com", None),
        ("https://pds.example.com?x", None),
        ("https://pds.example.com#x", None),
        ("https://pds.example.com\n", None),
        ("https://pds.example.com\\@evil", None),
        ("ftp://pds.example.com", None),
        ("https://", None),
        ("https://[2606:4700::A]:65535", "https://[2606:4700::a]:65535"),
        ("https://pds.example.com:65536", None),
        ("https://[:::]", None),
        ("https://[12345::]", None),
        ("https://[abc]", None),
        ({"uri": "https://pds.example.com"}, None),
    ],
)
def test_an_endpoint_is_a_host_and_nothing_else(make, endpoint, wanted):
    service = pds_at(endpoint)
    assert parse_document(ALICE, make.document(service=[service])).pds_url == wanted
    other_type = {**service, "type": "BskyFeedGenerator"}
    assert parse_document(ALICE, make.document(service=[other_type, service])).pds_url is None


@pytest.fixture(params=[False, True])
def nameless(request):
    """A fetcher, strict or of a test network, for which no name has an address."""

    def resolve(host, port):
        # As the system's resolver begins.
        host.encode("idna")
        raise socket.gaierror(-2, "Name or service not known")

    fetcher = Fetcher(request.param, user_agent="x", resolve=resolve)
    yield fetcher
    fetcher.close()


@pytest.mark.attack("strangers' servers")
@fuzz(50)
@given(
    st.from_regex(_ENDPOINT, fullmatch=True)
    | st.from_regex(r"https?://\[[0-9a-f:]{2,9}\](:[0-9]{4,5})?", fullmatch=True)
    | st.ip_addresses(v=6).map(lambda address: f"https://[{address}]:443")
)
def test_whatever_endpoint_is_read_can_be_taken_apart_and_asked(nameless, endpoint):
    url = parse_document(ALICE, {"id": ALICE, "service": [pds_at(endpoint)]}).pds_url
    if url is None:
        return
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port is None or parts.port > 0
    with pytest.raises(FetchFailed):
        nameless.get_json(f"{url}/xrpc/a.b.c", {"did": ALICE}, deadline_s=1.0, max_bytes=10)


def test_the_handle_is_the_first_alias_that_is_a_host_name(make):
    aliases = [
        "https://a.example.com",
        5,
        "at://",
        "at://no_host",
        "at://B.example.com",
        "at://c.d",
    ]
    assert parse_document(ALICE, make.document(alsoKnownAs=aliases)).handle == "b.example.com"
    assert parse_document(ALICE, make.document(alsoKnownAs={"at://a.b": 1})).handle is None


@fuzz(150)
@given(JUNK, JUNK, JUNK)
def test_no_document_with_the_right_id_raises_anything(methods, services, aliases):
    document = {
        "id": ALICE,
        "verificationMethod": methods,
        "service": services,
        "alsoKnownAs": aliases,
    }
    found = parse_document(ALICE, document)
    assert (found.did, found.signing_key) == (ALICE, None)


class RecordingFetcher:
    def __init__(self, answer):
        self.answer, self.urls = answer, []

    def get_json(self, url, params=None, *, deadline_s, max_bytes):
        assert deadline_s == 2.0
        assert max_bytes == MAX_DOCUMENT_BYTES
        self.urls.append(url)
        return self.answer


def test_each_method_has_its_own_place(make):
    for did, url in (
        (ALICE, f"https://plc.example.com/{ALICE}"),
        ("did:web:a.example.com", "https://a.example.com/.well-known/did.json"),
    ):
        fetcher = RecordingFetcher(make.document(did))
        assert Directory("https://plc.example.com", fetcher).resolve(did, 2.0).did == did
        assert fetcher.urls == [url]


@pytest.mark.parametrize(
    "did",
    [
        "did:plc:../../x",
        "did:plc:" + "A" * 24,
        "did:web:127.0.0.1",
        "did:web:169.254.169.254/x?",
        "did:web:user@10.0.0.1",
        "did:web:localhost%3A8000",
        "did:web:a.example.com:path",
        "did:key:zQ3sh",
        "alice.example.com",
    ],
)
def test_what_is_no_did_of_an_account_is_never_asked_for(did):
    fetcher = RecordingFetcher({})
    with pytest.raises(FetchFailed):
        Directory("https://plc.example.com", fetcher).resolve(did, 2.0)
    assert fetcher.urls == []
