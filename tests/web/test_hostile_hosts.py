"""A directory and PDSes that mean harm: they cost themselves something, and nobody else."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from simnet import Network
from tests.system.databases import SqliteFile
from tests.system.waiting import wait_until
from tests.web.conftest import SKELETON, Site, make_site
from tests.web.hostile_server import ANSWERS, HostileServer, did_of

pytestmark = [pytest.mark.slow, pytest.mark.attack("strangers' servers")]

# What all our processes may take in addition, however much they are sent. Bytes.
MORE_MEMORY = 60_000_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, HostileServer]]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with Network(seed=19, pds=2) as net:
        server = HostileServer(net, net.create_account("honest"))
        site = make_site(net, SqliteFile(folder / "feeds.db"), folder, PLC_URL=server.url)
        try:
            site.service.start()
            site.reader.settle(site.viewer)
            yield site, server
            assert site.service.stop() == 0
            assert "Traceback" not in site.service.log_path.read_text()
        finally:
            site.service.end()
            server.close()


def poll(site, account, **forged):
    target = f"{SKELETON}?limit=1&feed=" + quote(site.reader.uri(), safe="")
    return site.get(target, Authorization=site.token(account, **forged))


def memory(site):
    """The most that each of our processes has ever held, together."""
    total = 0
    for member in site.service.family():
        status = Path(f"/proc/{member.pid}/status").read_text()
        total += int(status.split("VmHWM:")[1].split()[0]) * 1024
    return total


@pytest.mark.parametrize("name", ANSWERS)
def test_a_directory_that_means_harm_is_a_503_in_good_time_and_disturbs_nobody(hostile, name):
    site, server = hostile
    # Somebody new, about whom it tells the truth: whatever was before has left nothing behind.
    names = (f"{name.replace('_', '-')}-{number}" for number in range(1000))
    wait_until(lambda: poll(site, site.net.create_account(next(names))).status == 200, 10, name)
    before = memory(site)
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        attack = pool.submit(poll, site, site.viewer, payload={"iss": did_of(name)})
        wait_until(lambda: server.given[name] > 0, 5, "it was asked")
        for _ in range(5):
            asked = time.monotonic()
            assert poll(site, site.viewer).status == 200
            assert time.monotonic() - asked < 1.5
        answer = attack.result()
    assert answer.error() == (503, "IdentityUnavailable")
    assert time.monotonic() - began < 4.5
    assert memory(site) - before < MORE_MEMORY
    assert server.given["trap"] == 0


def test_pdses_that_mean_harm_hold_up_nobody_elses_history(hostile):
    site, server = hostile
    server.given.clear()
    victim = site.net.create_account("follows-all-sorts")
    for name in ANSWERS:
        victim.follow(server.host(name), emit=False)
    author = site.net.create_account("honest-author")
    posts = {author.post(f"post {number}").uri for number in range(5)}
    victim.follow(author, emit=False)
    before = memory(site)

    def shows_all():
        target = f"{SKELETON}?limit=100&feed=" + quote(site.reader.uri(), safe="")
        answer = site.get(target, Authorization=site.token(victim))
        return {item["post"] for item in answer.json()["feed"]} == posts

    wait_until(shows_all, 20, "the honest author's posts, and nothing else")
    wait_until(lambda: ANSWERS.keys() <= server.given.keys(), 20, "each of them was asked")
    assert memory(site) - before < MORE_MEMORY * 2
    assert server.given["trap"] == 0
