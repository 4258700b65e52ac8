"""A database that takes too long holds no thread for long, and says so to whoever asks."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2
import pytest

from server.storage.opening import PAGE_STATEMENT_MS
from simnet import Network, PatientClock
from tests.devnet.postgres import Postgres
from tests.system.databases import PostgresDatabase
from tests.web.conftest import make_site, settled
from tests.web.test_metrics import TOKEN, number, scrape

LIMIT_SECONDS = PAGE_STATEMENT_MS / 1000


@pytest.fixture(scope="module")
def slow_site(tmp_path_factory):
    """A service with two threads for requests, in front of PostgreSQL."""
    server = Postgres()
    try:
        server.start()
        database = PostgresDatabase(server)
        with Network(seed=41, pds=2, clock=PatientClock()) as net:
            few = {"ADMIN_TOKEN": TOKEN, "WEB_THREADS": "2"}
            folder = tmp_path_factory.mktemp("slow")
            with settled(make_site(net, database, folder, **few)) as site:
                yield site
    finally:
        server.stop()


@contextmanager
def locked(site, table):
    with closing(psycopg2.connect(site.database.url)) as other:
        other.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@pytest.mark.slow
def test_a_page_that_does_not_come_in_time_is_a_503_and_its_thread_is_free(slow_site):
    site = slow_site
    feed = site.reader.uri()
    first = site.skeleton(f"feed={feed}&limit=20").json()
    second = f"feed={feed}&limit=20&cursor={first['cursor']}"
    expected = site.skeleton(second).json()
    errors = {"endpoint": "get_feed_skeleton", "reason": "ServiceUnavailable"}
    before = number(scrape(site), "gapless_http_errors_total", **errors)
    with locked(site, "feed_items"), ThreadPoolExecutor(2) as readers:
        began = time.monotonic()
        answers = list(readers.map(site.skeleton, [second] * 2))
        took_s = time.monotonic() - began
        assert [answer.error() for answer in answers] == [(503, "ServiceUnavailable")] * 2
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        assert LIMIT_SECONDS <= took_s < LIMIT_SECONDS + 3
        # What does not want that table is answered meanwhile.
        assert number(scrape(site), "gapless_http_errors_total", **errors) == before + 2
    assert site.skeleton(second).json() == expected
    assert "statement timeout" in site.service.log_path.read_text()


@pytest.mark.slow
def test_a_look_at_how_things_stand_may_take_longer_than_a_page(slow_site):
    with ThreadPoolExecutor(1) as reader:
        with locked(slow_site, "backfill_jobs"):
            look = reader.submit(slow_site.get, "/status.json")
            with pytest.raises(TimeoutError):
                look.result(LIMIT_SECONDS + 1)
        assert look.result(5).status == 200
