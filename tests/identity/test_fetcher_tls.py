"""The fetcher and TLS."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.core.errors import FetchFailed, NotFound
from server.identity.fetcher import Fetcher
from server.identity.handles import resolve_handle
from tests.identity.builders import ALICE, make_document
from tests.identity.conftest import FakeDirectory
from tests.identity.wire import SHORT_S, assert_late, read_request, respond


def make_certificate(folder, name):
    """A certificate for `name`, signed by itself; the paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return [str(path) for path in paths]


@pytest.fixture
def tls(tmp_path, serve):
    """Starts a TLS server for pds.example.com; gives it and a fetcher that trusts its issuer."""
    certificate, key = make_certificate(tmp_path, "pds.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    fetchers = []

    def start(handle, **options):
        server = serve(handle, wrap=lambda plain: context.wrap_socket(plain, server_side=True))
        server.names = names

        def resolve(host, port):
            return [(2, 1, 6, "", ("127.0.0.1", server.port))]

        options = {"ca_file": certificate} | options
        fetcher = Fetcher(True, user_agent="x", resolve=resolve, **options)
        fetchers.append(fetcher)
        return server, fetcher

    yield start
    for fetcher in fetchers:
        fetcher.close()


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


def test_a_handle_counts_when_its_host_and_the_account_agree(tls):
    handle = "pds.example.com"
    directory = FakeDirectory({ALICE: make_document(ALICE, alsoKnownAs=[f"at://{handle}"])})
    _, fetcher = tls(respond(body=ALICE.encode() + b"\n"))
    assert resolve_handle(fetcher, directory, handle, deadline_s=5) == ALICE
    directory.documents[ALICE] = make_document(ALICE, alsoKnownAs=["at://another.test"])
    with pytest.raises(NotFound, match="does not call itself"):
        resolve_handle(fetcher, directory, handle, deadline_s=5)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"did:plc:short", "did:plc:ü".encode()])
def test_a_host_that_names_no_did_proves_no_handle(tls, body):
    _, fetcher = tls(respond(body=body))
    with pytest.raises(FetchFailed):
        resolve_handle(fetcher, FakeDirectory(), "pds.example.com", deadline_s=5)
