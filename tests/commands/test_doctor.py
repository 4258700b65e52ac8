"""`doctor` beside a real service on simnet: all well, and then each thing wrong in its turn."""

import json
import socket
import ssl
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import dns.rcode
import pytest

from feeds import FEEDS
from server import outgoing
from server.commands.asking import ask_time
from server.commands.doctor_outside import Outside, certificate_days
from server.commands.findings import FAIL, OK, WARN, at_worst
from server.core.config import load_config
from simnet import Network
from tests.builders import did
from tests.identity.certificates import make_certificate
from tests.system.databases import SqliteFile, has_cursor
from tests.system.waiting import wait_until
from tests.web.conftest import make_site


class AppView(BaseHTTPRequestHandler):
    """Says of each feed what the test wants; its clock is the test's too."""

    def do_GET(self):
        feed = parse_qs(urlsplit(self.path).query).get("feed", [""])[0]
        known = feed.rpartition("/")[2] != self.server.unknown
        body = {"isOnline": self.server.is_online, "isValid": True, "view": {}}
        body |= self.server.more
        refusal = {"error": "InvalidRequest", "message": "could not find feed"}
        text = json.dumps(body if known else refusal).encode()
        self.send_response_only(200 if known else 400)
        self.send_header("Date", formatdate(self.server.time_s, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def appview():
    server = ThreadingHTTPServer(("127.0.0.1", 0), AppView)
    server.is_online, server.unknown, server.time_s, server.more = True, "", None, {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A service that runs, and its published feeds."""
    folder = tmp_path_factory.mktemp("doctor")
    with Network(seed=41, pds=2) as net:
        site = make_site(net, SqliteFile(folder / "feeds.db"), folder)
        publisher = site.reader.publisher
        for feed in FEEDS:
            net.publish_feed(publisher, feed.rkey, site.service.did)
        try:
            site.service.start()
            site.reader.settle(site.viewer, database=site.database)
            net.create_account("stranger").post("so that there is a place in the stream")
            wait_until(lambda: has_cursor(site.database), 10, "a place in the stream")
            yield site
        finally:
            site.service.end()


@pytest.fixture
def doctor(place, gapless, appview):
    """Runs it with the service's settings; the findings by name."""

    def run(*words, **environ):
        settings = {**place.service.environ, **environ}
        url = settings.pop("DATABASE_URL")
        for name in ("PATH", "HOME"):
            settings.pop(name, None)
        done = gapless(url, "doctor", "--json", "--appview", appview.url, *words, **settings)
        said = done.json()
        assert done.status == (1 if said["failures"] else 0), done.err
        return {one["name"]: one for one in said["findings"]}

    return run


def wrong(found):
    return {name for name, one in found.items() if one["verdict"] == FAIL}


def test_where_all_is_well_nothing_fails(doctor, place):
    found = doctor()
    assert wrong(found) == set(), found
    names = {"database", "disk", "leader", "cursor", "gaps", "did.json", "audience", "clock"}
    assert names <= found.keys()
    assert {f"record {feed.rkey}" for feed in FEEDS} <= found.keys()
    assert {f"app {feed.rkey}" for feed in FEEDS} <= found.keys()
    assert "speaks" in found["source"]["seen"]
    # What a test network is, and a public one must not be.
    warned = {name for name, one in found.items() if one["verdict"] == WARN}
    assert warned == {"settings", "backups"}
    assert all(one["advice"] for one in found.values() if one["verdict"] != OK)


def test_a_record_that_names_another_service_is_noticed(doctor, place):
    publisher = place.reader.publisher
    place.net.publish_feed(publisher, FEEDS[0].rkey, "did:web:old.example.com")
    try:
        found = doctor()
    finally:
        place.net.publish_feed(publisher, FEEDS[0].rkey, place.service.did)
    assert wrong(found) == {f"record {FEEDS[0].rkey}"}
    assert "old.example.com" in found[f"record {FEEDS[0].rkey}"]["seen"]
    assert "make publish" in found[f"record {FEEDS[0].rkey}"]["advice"]


def test_records_that_are_not_there_are_noticed(doctor, place):
    found = doctor(FEED_PUBLISHER_DID=place.viewer.did)
    assert wrong(found) == {"audience", *(f"record {feed.rkey}" for feed in FEEDS)}


def test_a_document_of_another_did_is_noticed(doctor):
    found = doctor(FEED_SERVICE_DID="did:web:feeds.example.com")
    assert {"did.json", "audience"} <= wrong(found)
    assert "feeds.example.com" in found["did.json"]["seen"]


@pytest.mark.parametrize("feeds", [None, 7, [None, {"uri": ["x"]}]])
def test_whatever_answers_at_our_address_is_told(doctor, appview, monkeypatch, feeds):
    monkeypatch.setattr(appview, "unknown", "another")
    monkeypatch.setattr(appview, "more", {"feeds": feeds})
    found = doctor(PORT=str(appview.server_port))
    assert {"did.json", "audience"} <= wrong(found)
    assert "with 0 of" in found["audience"]["seen"]


def test_what_the_appview_thinks_is_told(doctor, appview):
    appview.is_online, appview.unknown = False, FEEDS[1].rkey
    try:
        found = doctor()
    finally:
        appview.is_online, appview.unknown = True, ""
    assert wrong(found) == {f"app {feed.rkey}" for feed in FEEDS}
    assert "does not know" in found[f"app {FEEDS[1].rkey}"]["seen"]


def test_a_clock_that_is_wrong_is_noticed(doctor, appview):
    appview.time_s = 1_000_000_000
    try:
        assert "clock" in wrong(doctor(PLC_URL=appview.url))
        assert ask_time(appview.url, "doctor").timestamp() == 1_000_000_000
    finally:
        appview.time_s = None


def test_whose_silence_it_is_decides_what_to_do(doctor):
    found = doctor(PLC_URL="http://127.0.0.1:9")
    assert wrong(found) == {"clock", "records"}
    for name in ("clock", "records"):
        assert "127.0.0.1:9" in found[name]["seen"]
        assert "service running" not in found[name]["advice"]
    found = doctor(PORT="9")
    assert "service running" in found["did document"]["advice"]


def test_a_source_that_does_not_answer_is_noticed(doctor):
    dead = "ws://127.0.0.1:9/xrpc/com.atproto.sync.subscribeRepos"
    assert wrong(doctor(STREAM_URLS=dead)) == {"source"}


def test_a_database_that_is_not_there_is_noticed(doctor, tmp_path):
    found = doctor("--local", DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}")
    assert wrong(found) == {"database"}
    found = doctor("--local", DATABASE_URL="postgresql://x:sesame@127.0.0.1:9/none")
    assert wrong(found) == {"database"}
    assert "sesame" not in json.dumps(found)


def test_people_get_lines_and_what_to_do(place, gapless):
    done = gapless(place.database.url, "doctor", "--local", BACKUP_DIR="nowhere")
    assert done.status == 1
    assert "FAIL backups: none in nowhere yet\n     → the log says why" in done.out
    assert "things are wrong" in done.err


def test_the_end_of_a_certificate_is_read_from_the_host_itself(tmp_path):
    certificate, key = make_certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        trusting = ssl.create_default_context(cafile=certificate)
        assert 0.9 < certificate_days("localhost", server.server_port, trusting) <= 1
        with pytest.raises(ssl.SSLError):
            certificate_days("localhost", server.server_port, ssl.create_default_context())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_name_without_an_address_is_noticed(monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    settings = {"FEED_HOSTNAME": "feeds.example.com", "FEED_PUBLISHER_DID": did("publisher")}
    outside = Outside(load_config(settings), None, {})
    ((name,), (tls,)) = (list(outside.dns()), list(outside.tls()))
    assert (name.verdict, tls.verdict) == (FAIL, FAIL)
    assert outside.dns in outside.checks()
    outside.fetcher.close()


def test_a_resolver_that_says_nothing_of_txt_records_is_noticed(dns_server, monkeypatch):
    monkeypatch.setattr(outgoing, "system_resolvers", dns_server.resolvers)
    settings = {"FEED_HOSTNAME": "feeds.example.com", "FEED_PUBLISHER_DID": did("publisher")}
    outside = Outside(load_config(settings), None, {})
    (well,) = outside.resolver()
    assert well.verdict == OK
    dns_server.rcode = dns.rcode.REFUSED
    (bad,) = outside.resolver()
    assert (bad.verdict, "REFUSED" in bad.seen, "resolv.conf" in bad.advice) == (WARN, True, True)
    assert {name for name, _ in dns_server.asked} == {"_atproto.feeds.example.com"}
    assert outside.resolver in outside.checks()
    outside.fetcher.close()


@pytest.mark.parametrize(("value", "verdict"), [(1, OK), (2, WARN), (3, FAIL), (9, FAIL)])
def test_numbers_are_judged_by_two_bounds(value, verdict):
    finding = at_worst("x", value, 2, 3, "seen", "do")
    assert (finding.verdict, finding.advice) == (verdict, "" if verdict == OK else "do")


def test_a_folder_of_backups_that_cannot_be_read_is_noticed(doctor):
    found = doctor("--local", BACKUP_DIR="x" * 300)
    assert wrong(found) == {"backups"}
    assert "too long" in found["backups"]["seen"]
