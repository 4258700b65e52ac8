"""What our processes count, for Prometheus: every metric that is no fact of the database.

Each set of metrics is an object with a registry of its own, made by whoever counts. Nothing is
registered globally, and nothing here reads a clock, a table or the environment.

Bounds: no label holds a DID, a handle, or a text from outside. A host that strangers chose becomes
a label only through `HostLabels`. What happens for each frame of the stream is counted in a plain
dict (`IngestMetrics.frames`) and put into form only when somebody asks.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric

# Seconds. The AppView gives up after 5; the alert is at 1.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# A batch may wait for SQLite's lock or a distant PostgreSQL; a turn of a backfill for a slow PDS.
BATCH_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Healthy sources are tenths of a second apart; what comes after half a minute counts as lost.
DELAY_BUCKETS = (0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TURN_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# What a source that is read together with others did with a record.
FIRST, LATE, MISSING = "first", "late", "missing"

# Hosts with a label of their own, and what it takes to get one: whoever runs a PDS can invent host
# names, but has to be asked this often before one of them shows.
MAX_HOST_LABELS = 30
VISITS_FOR_A_LABEL = 10
# Hosts whose visits are being counted for that.
MAX_CANDIDATES = 2000


class WebMetrics:
    """What one web process counts. With several, the library adds them up: see web/scrape.py."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gapless_http_requests",
            "Requests answered, by endpoint, feed (its record key) and status.",
            ("endpoint", "feed", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "gapless_http_request_seconds",
            "Time from the first byte of a view to its answer.",
            ("endpoint", "feed"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.database_seconds = Histogram(
            "gapless_http_database_seconds",
            "Time in a request that was spent in the database, waiting for locks included.",
            ("endpoint",),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter(
            "gapless_http_errors",
            "Answers that are errors, by the name in their body.",
            ("endpoint", "reason"),
            registry=self.registry,
        )
        self.token_refusals = Counter(
            "gapless_token_refusals",
            "Tokens refused, by reason: see REFUSALS in server/identity/service_auth.py.",
            ("reason",),
            registry=self.registry,
        )
        self.cache_asks = Counter(
            "gapless_cache_asks",
            "Questions to a cache in memory, by whether the answer was there (hit) or not (miss).",
            ("cache", "result"),
            registry=self.registry,
        )

        self.page_reads = Counter(
            "gapless_page_reads",
            "Pages of feeds by where they were read: memory, primary, or a replica (its address).",
            ("place",),
            registry=self.registry,
        )
        self.replica_refusals = Counter(
            "gapless_replica_refusals",
            "Pages that a replica could not give, by why: see REASONS in"
            " server/storage/replica_connection.py.",
            ("replica", "reason"),
            registry=self.registry,
        )

    def count_page(self, place: str) -> None:
        """Count a page that was read there."""
        self.page_reads.labels(place).inc()

    def count_refusal(self, replica: str, reason: str) -> None:
        """Count a page that a replica could not give."""
        self.replica_refusals.labels(replica, reason).inc()

    def cache(self, name: str) -> Callable[[bool], None]:
        """What a cache calls for each question, with whether the answer was there."""
        hit, miss = (self.cache_asks.labels(name, result) for result in ("hit", "miss"))
        return lambda is_hit: (hit if is_hit else miss).inc()


class IngestMetrics:
    """What the process that leads counts, from the beginning of its lead."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # By the class of the event. Only the reader's thread writes here.
        self.frames: dict[str, int] = {}
        self.registry.register(_Frames(self.frames))
        self.drops = Counter(
            "gapless_stream_drops",
            "What the stream brought and we did not take: unreadable (a frame, which opens a gap),"
            " bad_record (its lexicon refuses it), already_seen (a commit in a replay).",
            ("reason",),
            registry=self.registry,
        )
        self.rows = Counter(
            "gapless_stream_rows",
            "Rows that batches of the stream wrote.",
            ("action",),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "gapless_stream_batch_seconds",
            "Time to save one batch with its cursor.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.database_wait = Gauge(
            "gapless_database_wait_seconds",
            "How long who saves something now has waited for the database; 0: nobody waits.",
            ("who",),
            registry=self.registry,
        )
        self.breaks = Counter(
            "gapless_stream_breaks",
            "Connections to a source that ended or never came, by KINDS of ingest/breaks.py.",
            ("source", "kind"),
            registry=self.registry,
        )
        self.connected = Gauge(
            "gapless_source_connected",
            "Whether a source of STREAM_URLS is being read.",
            ("source",),
            registry=self.registry,
        )
        self.hedged_events = Counter(
            "gapless_hedged_events",
            "Records of tracked authors that sources read together told: first, late (after another"
            " one), or missing (it told what came after, and not this).",
            ("source", "outcome"),
            registry=self.registry,
        )
        self.hedged_delay = Histogram(
            "gapless_hedged_delay_seconds",
            "How much later than the first a source told what it told late.",
            ("source",),
            buckets=DELAY_BUCKETS,
            registry=self.registry,
        )
        self.source_changes = Counter(
            "gapless_stream_source_changes",
            "Changes to another entry of STREAM_URLS, and back to a preferred one.",
            registry=self.registry,
        )
        self.gaps_opened = Counter(
            "gapless_gaps_opened",
            "Gaps written into the ledger, of everybody or of one author.",
            ("scope",),
            registry=self.registry,
        )
        self.backfill_turns = Counter(
            "gapless_backfill_turns",
            "Turns of backfill jobs by host and outcome: ok, or failed (tried again later).",
            ("host", "outcome"),
            registry=self.registry,
        )
        self.backfill_seconds = Histogram(
            "gapless_backfill_turn_seconds",
            "Time of a turn of a backfill job.",
            ("outcome",),
            buckets=TURN_BUCKETS,
            registry=self.registry,
        )
        self.backup_timestamp = Gauge(
            "gapless_backup_timestamp_seconds",
            "When the newest backup was made, in seconds since 1970; 0: never. Needs BACKUP_DIR.",
            ("kind",),
            registry=self.registry,
        )
        self.hosts = HostLabels()

    def count_frames(self, kind: str, many: int = 1) -> None:
        """Count frames by the class of their event. The only thing here that is done so often."""
        self.frames[kind] = self.frames.get(kind, 0) + many

    def count_batch(
        self, seconds: float, saved: int, deleted: int, already_seen: int, holes: int
    ) -> None:
        """Count a batch that was saved: its rows, and the authors for whom it opened a gap."""
        self.batch_seconds.observe(seconds)
        self.rows.labels("saved").inc(saved)
        self.rows.labels("deleted").inc(deleted)
        self.drops.labels("already_seen").inc(already_seen)
        self.gaps_opened.labels("author").inc(holes)

    def count_turn(self, host: str, outcome: str, seconds: float) -> None:
        """Count a turn of a backfill job at a host."""
        self.backfill_turns.labels(self.hosts.label(host), outcome).inc()
        self.backfill_seconds.labels(outcome).observe(seconds)


class HostLabels:
    """Which hosts are called by name in labels. The rest is `other`; a label once given stays.

    Hosts count by the last three labels of their name, because big providers have hundreds:
    `morel.us-east.host.bsky.network` is `host.bsky.network`. Safe to share between threads: two
    that come at once may count one visit less.
    """

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._visits: dict[str, int] = {}

    def label(self, host: str) -> str:
        """The label of a host, which is visited now."""
        is_address = host.replace(".", "").isdigit() or ":" in host
        group = host if is_address else ".".join(host.lower().split(".")[-3:])
        if group in self._named:
            return group
        if len(self._named) >= MAX_HOST_LABELS:
            return "other"
        visits = self._visits.get(group, 0) + 1
        if visits >= VISITS_FOR_A_LABEL:
            self._named.add(group)
            self._visits.pop(group, None)
            return group
        if len(self._visits) >= MAX_CANDIDATES:
            self._visits.clear()
        self._visits[group] = visits
        return "other"


class _Frames:
    """The plain counts of frames, in the library's form."""

    def __init__(self, frames: dict[str, int]) -> None:
        self._frames = frames

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "gapless_stream_frames",
            "Frames of the stream by kind; skipped ones are about nobody whom we track.",
            labels=("kind",),
        )
        for kind, count in sorted(self._frames.copy().items()):
            family.add_metric((kind.lower(),), count)
        yield family
