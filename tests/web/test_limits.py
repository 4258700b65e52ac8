"""Too many requests, of one viewer or of all: refused in good time, and nobody else pays."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from simnet import Network, key_from_seed
from tests.system.databases import SqliteFile
from tests.system.waiting import wait_until
from tests.web.conftest import SKELETON, Site, make_site
from tests.web.test_metrics import TOKEN, number, scrape


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with one thread, where a viewer may ask ten times a minute, twice at once."""
    folder: Path = tmp_path_factory.mktemp("narrow")
    with Network(seed=17, pds=2) as net:
        limits = {"WEB_THREADS": "1", "VIEWER_REQUESTS_PER_MINUTE": "10", "ADMIN_TOKEN": TOKEN}
        site = make_site(net, SqliteFile(folder / "feeds.db"), folder, **limits)
        try:
            site.service.start()
            yield site
            assert "Traceback" not in site.service.log_path.read_text()
        finally:
            site.service.end()


def poll(site, account, **forged):
    """What an app asks once a minute; it never waits for a first page."""
    target = f"{SKELETON}?limit=1&feed=" + quote(site.reader.uri(), safe="")
    return site.get(target, Authorization=site.token(account, **forged))


def test_one_viewer_who_asks_too_often_waits_and_nobody_else_does(narrow):
    eager, calm = (narrow.net.create_account(name) for name in ("eager", "calm"))
    assert [poll(narrow, eager).status for _ in range(2)] == [200, 200]
    answer = poll(narrow, eager)
    assert answer.error() == (429, "RateLimitExceeded")
    assert answer.headers["retry-after"] == "5"
    assert "wait" in answer.json()["message"]
    assert poll(narrow, calm).status == 200


def test_forged_tokens_use_up_nothing_of_the_one_they_name(narrow):
    victim = narrow.net.create_account("victim")
    for _ in range(5):
        forged = poll(narrow, victim, key=key_from_seed("somebody else's"))
        assert forged.error() == (401, "BadJwtSignature")
    assert poll(narrow, victim).status == 200


def test_who_has_waited_too_long_is_refused_at_once_and_counted_and_health_is_not(narrow):
    strangers = [narrow.net.create_account(f"stranger{number}") for number in range(4)]
    faults = narrow.net.faults
    faults.arm("http-hang", times=None, where={"host": "plc"}, delay_s=4)
    try:
        with ThreadPoolExecutor(5) as pool:
            asked = [pool.submit(poll, narrow, stranger) for stranger in strangers]
            wait_until(lambda: faults.fired["http-hang"] > 0, 5, "a look-up hangs")
            health = pool.submit(narrow.get, "/health")
            answers = [one.result() for one in asked]
        names = sorted(answer.error() for answer in answers)
        assert (503, "NotEnoughResources") in names
        assert set(names) <= {(503, "NotEnoughResources"), (503, "IdentityUnavailable")}
        assert all(answer.headers["retry-after"] == "5" for answer in answers)
        assert health.result().status == 200
    finally:
        faults.disarm("http-hang")
    told, refused = scrape(narrow), names.count((503, "NotEnoughResources"))
    assert number(told, "gapless_http_errors_total", reason="NotEnoughResources") == refused
    unread = {"endpoint": "none", "status": "503"}
    assert number(told, "gapless_http_requests_total", **unread) == refused
    assert "too busy: requests refused count=1: waited " in narrow.service.log_text()
    began = time.monotonic()
    assert poll(narrow, narrow.net.create_account("later")).status in (200, 503)
    assert time.monotonic() - began < 5
