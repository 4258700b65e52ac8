"""/metrics: for the operator alone, true for all processes, and nothing in it about anybody."""

import re

import pytest

from simnet import Network
from tests.system.databases import SqliteFile
from tests.system.waiting import wait_until
from tests.web.conftest import ON_SQLITE, make_site

TOKEN = "of-the-operator-0123456789"  # noqa: S105


@pytest.fixture(scope="module")
def metered(tmp_path_factory):
    """A service of two web processes with an operator's token; its viewer's feed is complete."""
    folder = tmp_path_factory.mktemp("metered")
    with Network(seed=19, pds=2) as net:
        database = SqliteFile(folder / "feeds.db")
        site = make_site(net, database, folder, ADMIN_TOKEN=TOKEN, WEB_WORKERS="2")
        try:
            site.service.start()
            site.reader.settle(site.viewer, database=database)
            yield site
            assert site.service.stop() == 0
        finally:
            site.service.end()


def scrape(site):
    answer = site.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.body.decode()


def number(text, name, **labels):
    """The sum of the samples that have these labels."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.M)
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    return sum(float(value) for text, value in found if wanted <= set(text.split(",")))


@ON_SQLITE
def test_without_a_token_of_the_operator_there_is_no_such_page(site):
    assert site.get("/metrics").error() == (404, "NotFound")
    assert site.get("/metrics", Authorization=f"Bearer {TOKEN}").error() == (404, "NotFound")


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer x", f"bearer {TOKEN}", TOKEN, f"Bearer {TOKEN} ", "Bearer ä"]
)
def test_only_the_operators_token_opens_the_page(metered, given):
    headers = {"Authorization": given.encode("latin-1")} if given else {}
    answer = metered.ask("GET", "/metrics", headers)
    if given.strip() == f"Bearer {TOKEN}":
        # White space around a header's value is not part of it.
        assert answer.status == 200
    else:
        assert answer.error() == (401, "AuthenticationRequired")
    assert metered.get(f"/metrics?token={TOKEN}").status == 401


def test_requests_are_counted_over_all_web_processes(metered):
    labels = {"endpoint": "get_feed_skeleton", "feed": "following", "status": "200"}
    feed = metered.reader.uri("following")
    before = number(scrape(metered), "gapless_http_requests_total", **labels)
    for sent in range(1, 31):
        assert metered.skeleton(f"feed={feed}&limit=5").status == 200
        text = scrape(metered)
        # Whichever process answers, it knows of those that the other one answered.
        assert number(text, "gapless_http_requests_total", **labels) == before + sent
    assert number(text, "gapless_http_request_seconds_count", feed="following") >= sent
    assert number(text, "gapless_http_database_seconds_sum", endpoint="get_feed_skeleton") > 0
    assert number(text, "gapless_cache_asks_total", cache="identity", result="hit") >= sent - 2


def test_errors_and_refused_tokens_are_counted_by_reason(metered):
    before = scrape(metered)
    feed = metered.reader.uri()
    metered.skeleton("feed=at://nobody/x/y")
    metered.get(f"/xrpc/app.bsky.feed.getFeedSkeleton?feed={feed}")
    expired = metered.token(payload={"exp": 1_000_000_000})
    metered.get(f"/xrpc/app.bsky.feed.getFeedSkeleton?feed={feed}", Authorization=expired)
    after = scrape(metered)
    for name, labels in (
        ("gapless_http_errors_total", {"reason": "UnknownFeed"}),
        ("gapless_token_refusals_total", {"reason": "missing"}),
        ("gapless_token_refusals_total", {"reason": "expired"}),
    ):
        assert number(after, name, **labels) == number(before, name, **labels) + 1, labels


def test_the_leader_and_the_database_are_on_the_same_page(metered):
    metered.net.create_account("stranger").post("a frame about nobody here")

    def has_frames():
        return number(scrape(metered), "gapless_stream_frames_total", kind="skipped") > 0

    wait_until(has_frames, 15, "the leader shows what it counts")
    text = scrape(metered)
    assert number(text, "gapless_leader") == 1
    assert number(text, "gapless_stream_connected") == 1
    assert number(text, "gapless_stream_batch_seconds_count") > 0
    assert number(text, "gapless_backfill_turns_total", outcome="ok") >= 2
    assert number(text, "gapless_repos", state="complete") == 2
    assert number(text, "gapless_viewers") == 1
    assert 0 <= number(text, "gapless_stream_lag_seconds") < 60
    assert "_created" not in text


def test_why_the_stream_broke_is_on_the_page_and_in_the_log(metered):
    relay = metered.net.relay
    source = f"127.0.0.1:{relay.server.port}"
    assert relay.stream.cut("too-slow") == 1
    metered.net.create_account("somebody").post("as soon as it is read again")

    def is_told():
        text = scrape(metered)
        breaks = number(text, "gapless_stream_breaks_total", source=source, kind="ConsumerTooSlow")
        return breaks == 1 and number(text, "gapless_source_connected", source=source) == 1

    wait_until(is_told, 15, "the leader shows what it counts")
    log = metered.service.log_path.read_text()
    assert f"stream broken source={source} kind=ConsumerTooSlow retry_s=" in log
    assert ": the source says ConsumerTooSlow: Stream consumer too slow\n" in log


def test_nobody_is_named(metered):
    text = scrape(metered)
    assert "did:" not in text
    assert "viewer." not in text
    assert TOKEN not in text


def test_a_broken_database_costs_its_own_part_only(metered):
    metered.database.rows("ALTER TABLE gaps RENAME TO hidden")
    try:
        text = scrape(metered)
    finally:
        metered.database.rows("ALTER TABLE hidden RENAME TO gaps")
    assert number(text, "gapless_database_up") == 0
    assert "gapless_leader" not in text
    assert number(text, "gapless_http_requests_total") > 0
