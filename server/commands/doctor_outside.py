"""What `doctor` asks others: name, DNS, certificate, did.json, records, clock, source, AppView.

Each question has a deadline, and none goes anywhere but to the hosts that the settings name, to
the publisher's PDS, and about our own name to DNS. Nothing is written.
"""

import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from feeds import FEEDS
from server.backfill.pds import get_record
from server.commands.asking import ask_json, ask_time
from server.commands.findings import FAIL, OK, WARN, Check, Finding, at_worst
from server.core.config import UNPUBLISHED_DID, Config
from server.core.errors import FetchFailed, NotFound, StreamBroken
from server.identity.did import Directory
from server.identity.fetcher import Fetcher
from server.ingest.connection import Line
from server.ingest.frames import Span
from server.ingest.source import source_of
from server.ingest.websocket import read_stream
from server.outgoing import make_fetcher, make_txt_records
from server.version import user_agent

DEADLINE_SECONDS = 10.0
TLS_PORT = 443
APPVIEW = "https://public.api.bsky.app"
# Days left. Certificates of today's authorities are renewed a month, or a third of their time,
# before they end: who comes to two weeks has a renewal that fails.
CERTIFICATE_DAYS = (14, 3)
# Tokens forgive a minute.
SKEW_SECONDS = (5, 30)
GENERATOR = "app.bsky.feed.generator"


class Outside:
    """The checks that ask others. `appview`: where apps ask, if not at the usual place.

    `cursors`: where in each source we are, by host. From there a source has something to say.
    """

    def __init__(self, config: Config, appview: str | None, cursors: dict[str, int]) -> None:
        self.config = config
        self.cursors = cursors
        # No AppView of the world knows of a local trial.
        usual = None if config.is_local_trial else APPVIEW
        self.appview = (appview or usual or "").rstrip("/")
        self.agent = user_agent(config)
        self.fetcher: Fetcher = make_fetcher(config)
        self.directory = Directory(config.plc_url, self.fetcher)

    def checks(self) -> list[Check]:
        """In the order in which one hangs on the other."""
        public = [] if self.config.is_local_trial else [self.dns, self.resolver, self.tls]
        published = [] if self.config.publisher_did == UNPUBLISHED_DID else [self.records]
        seen = [self.visible] if published and self.appview else []
        here = [self.did_document, self.description, self.clock, *self.sources()]
        return [*public, *here, *published, *seen]

    def dns(self) -> Iterator[Finding]:
        """Whether the host name leads anywhere."""
        name = self.config.hostname
        try:
            found = socket.getaddrinfo(name, TLS_PORT, type=socket.SOCK_STREAM)
        except OSError as error:
            advice = "add an A or AAAA record for FEED_HOSTNAME that leads to the proxy"
            yield Finding("dns", FAIL, f"{name} has no address: {error}", advice)
            return
        addresses = sorted({str(entry[4][0]) for entry in found})
        yield Finding("dns", OK, f"{name} is {', '.join(addresses)}")

    def resolver(self) -> Iterator[Finding]:
        """Whether the system's resolvers say anything of TXT records, which prove handles."""
        name = f"_atproto.{self.config.hostname}"
        try:
            make_txt_records().look_up(name, DEADLINE_SECONDS)
        except NotFound:
            # Nor need there be any.
            pass
        except FetchFailed as error:
            advice = "look at /etc/resolv.conf: handles that only DNS proves are not found"
            yield Finding("resolver", WARN, str(error), advice)
            return
        yield Finding("resolver", OK, "DNS answers when it is asked for TXT records")

    def tls(self) -> Iterator[Finding]:
        """Whether the certificate is valid, and for how long."""
        name = self.config.hostname
        try:
            days = certificate_days(name, TLS_PORT, ssl.create_default_context())
        except (OSError, ssl.SSLError) as error:
            advice = "the proxy has to serve HTTPS with a certificate for FEED_HOSTNAME"
            yield Finding("tls", FAIL, f"{name}:{TLS_PORT}: {error}", advice)
            return
        warn, fail = CERTIFICATE_DAYS
        yield at_worst(
            "tls",
            -days,
            -warn,
            -fail,
            f"the certificate of {name} is valid for {days:.0f} days more",
            "its renewal fails: look at the proxy's log",
        )

    def did_document(self) -> Iterator[Finding]:
        """Whether others find the document of our DID, and us in it."""
        config = self.config
        if config.service_did.startswith("did:web:"):
            url = f"{config.service_endpoint}/.well-known/did.json"
        else:
            url = f"{config.plc_url}/{config.service_did}"
        document = ask_json(url, self.agent)
        if document.get("id") != config.service_did:
            seen = f"{url} is of {document.get('id')!r}, and not of {config.service_did}"
            yield Finding(
                "did.json",
                FAIL,
                seen,
                "another service answers there, or FEED_SERVICE_DID is wrong",
            )
            return
        entries = document.get("service")
        wanted = {
            "id": ("#bsky_fg", f"{config.service_did}#bsky_fg"),
            "type": ("BskyFeedGenerator",),
            "serviceEndpoint": (config.service_endpoint,),
        }
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and all(entry.get(key) in wanted[key] for key in wanted):
                seen = f"{config.service_did} leads to {config.service_endpoint}"
                yield Finding("did.json", OK, seen)
                return
        seen = f"{url} names no #bsky_fg of type BskyFeedGenerator at {config.service_endpoint}"
        yield Finding("did.json", FAIL, seen, "add that service to the document")

    def description(self) -> Iterator[Finding]:
        """Whether what answers at our address is us, with these feeds."""
        config = self.config
        url = f"{config.service_endpoint}/xrpc/app.bsky.feed.describeFeedGenerator"
        said = ask_json(url, self.agent)
        entries = said.get("feeds")
        uris = {
            str(entry.get("uri"))
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict)
        }
        ours = {feed.uri(config.publisher_did) for feed in FEEDS}
        if said.get("did") == config.service_did and uris == ours:
            seen = f"{len(ours)} feeds, for tokens to {config.service_did}, or to its #bsky_fg"
            yield Finding("audience", OK, seen)
        else:
            seen = (
                f"{url} speaks for {said.get('did')!r} with {len(uris & ours)} of {len(ours)} feeds"
            )
            advice = (
                "an older release or another service answers there: restart, or look at the proxy"
            )
            yield Finding("audience", FAIL, seen, advice)

    def clock(self) -> Iterator[Finding]:
        """How far our clock is from the directory's."""
        before = time.time()
        date = ask_time(self.config.plc_url, self.agent)
        # The header has no fractions of a second.
        ours = (before + time.time()) / 2 - 0.5
        if date is None:
            yield Finding("clock", WARN, f"{self.config.plc_url} does not say the time")
            return
        skew_s = abs(ours - date.timestamp())
        yield at_worst(
            "clock",
            skew_s,
            *SKEW_SECONDS,
            f"{skew_s:.0f} s from the clock of {urlsplit(self.config.plc_url).netloc}",
            "let NTP set it: tokens are refused when it is a minute off, and posts stand wrongly",
        )

    def sources(self) -> list[Check]:
        """One check for each source."""
        urls = [url for group in self.config.stream_urls for url in group]
        return [lambda url=url: self._source(url) for url in urls]  # type: ignore[misc]

    def _source(self, url: str) -> Iterator[Finding]:
        agent = self.agent
        source = source_of(url, agent, self.config.jetstream_dictionary)
        first = _FirstMessage()
        # The event of the cursor itself: that one there is, however quiet the network.
        cursor = self.cursors.get(source.name)
        try:
            read_stream(source.address(None if cursor is None else cursor - 1), agent, first)
        except StreamBroken as broken:
            advice = "outgoing TCP must be allowed; else try another one in STREAM_URLS"
            yield Finding("source", FAIL, f"{source.name}: {broken}", advice)
            return
        said = "and speaks" if first.bytes else f"and was silent for {DEADLINE_SECONDS:.0f} s"
        yield Finding("source", OK if first.bytes else WARN, f"{source.name} answers {said}")

    def records(self) -> Iterator[Finding]:
        """Whether the feeds' records are published, and name us."""
        config = self.config
        home = self.directory.resolve(config.publisher_did, DEADLINE_SECONDS).pds_url
        if home is None:
            seen = f"{config.publisher_did} has no PDS"
            yield Finding("records", FAIL, seen, "is FEED_PUBLISHER_DID the right account?")
            return
        for feed in FEEDS:
            name = f"record {feed.rkey}"
            try:
                value = get_record(self.fetcher, home, config.publisher_did, GENERATOR, feed.rkey)
            except NotFound:
                yield Finding(name, FAIL, "is not published", "run `make publish`")
                continue
            did = value.get("did") if isinstance(value, dict) else None
            if did == config.service_did:
                yield Finding(name, OK, f"is published and names {did}")
            else:
                seen = f"names {did!r}: tokens for it are for another service than ours"
                yield Finding(name, FAIL, seen, "run `make publish`, or correct FEED_HOSTNAME")

    def visible(self) -> Iterator[Finding]:
        """Whether apps get to see the feeds."""
        for feed in FEEDS:
            name = f"app {feed.rkey}"
            url = f"{self.appview}/xrpc/app.bsky.feed.getFeedGenerator"
            try:
                said = ask_json(url, self.agent, {"feed": feed.uri(self.config.publisher_did)})
            except NotFound:
                seen = f"{urlsplit(self.appview).netloc} does not know it"
                yield Finding(
                    name, FAIL, seen, "just published? Wait a minute; else `make publish`"
                )
                continue
            is_well = said.get("isOnline") is True and said.get("isValid") is True
            seen = f"online: {said.get('isOnline')}, valid: {said.get('isValid')}"
            advice = "" if is_well else "the AppView cannot use our did.json: see above"
            yield Finding(name, OK if is_well else FAIL, seen, advice)


def certificate_days(host: str, port: int, context: ssl.SSLContext) -> float:
    """For how many days the certificate that a host shows is valid. Raises SSLError or OSError."""
    with (
        socket.create_connection((host, port), timeout=DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate = secured.getpeercert() or {}
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return (ends_s - time.time()) / 86_400


class _FirstMessage:
    """Waits for one message of a stream."""

    def __init__(self) -> None:
        self.bytes = 0
        self.until = time.monotonic() + DEADLINE_SECONDS

    def opened(self, line: Line) -> None:
        """Nothing to do."""

    def arrived(self) -> None:
        """Pings may be all it says."""

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterable[None]:
        """It speaks."""
        del memory, is_text
        self.bytes += sum(stop - start for start, stop in spans)
        return ()

    def tick(self) -> bool:
        """Go on while nothing came."""
        return self.bytes == 0 and time.monotonic() < self.until
