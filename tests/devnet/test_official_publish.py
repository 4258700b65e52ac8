"""publish_feed.py against the official PDS: what it writes, keeps and removes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.devnet.client import GENERATOR, Account, Network, XrpcFailed
from tests.devnet.ports import free_port
from tests.devnet.reading import feed_page, texts, wait_for
from tests.devnet.service import RKEYS, ROOT, Service

pytestmark = pytest.mark.devnet

Publish = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def publisher(network: Network) -> Account:
    return network.account("publisher")


@pytest.fixture
def publish(network: Network, publisher: Account) -> Publish:
    return publish_command(network, publisher)


def publish_command(network: Network, publisher: Account) -> Publish:
    """Runs the command as its user does, with an app password."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PUBLISH_PDS_URL": network.info["pds"],
        "PUBLISH_HANDLE": publisher.handle,
        "PUBLISH_APP_PASSWORD": publisher.app_password("publish"),
        "FEED_PUBLISHER_DID": publisher.did,
        "PORT": str(free_port()),
    }

    def publish(*arguments: str, status: int = 0, **settings: str) -> Any:
        done = subprocess.run(
            [sys.executable, "publish_feed.py", *arguments],
            cwd=ROOT,
            env={**environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return publish


def stored(publisher: Account, rkey: str) -> dict[str, Any]:
    record: dict[str, Any] = publisher.query(
        "com.atproto.repo.getRecord", repo=publisher.did, collection=GENERATOR, rkey=rkey
    )["value"]
    return record


def stored_rkeys(publisher: Account) -> set[str]:
    listed = publisher.query(
        "com.atproto.repo.listRecords", repo=publisher.did, collection=GENERATOR
    )
    return {record["uri"].rpartition("/")[2] for record in listed["records"]}


def test_publish_writes_a_record_for_each_feed_that_the_appview_shows(
    network: Network, publisher: Account, publish: Publish
) -> None:
    publish("check", status=1)
    assert stored_rkeys(publisher) == set()
    publish("publish")
    assert stored_rkeys(publisher) == set(RKEYS)
    publish("check")
    network.settle()
    shown = publisher.query("app.bsky.feed.getActorFeeds", actor=publisher.did)["feeds"]
    assert {feed["uri"].rpartition("/")[2] for feed in shown} == set(RKEYS)
    assert all(feed["displayName"] and feed["description"] for feed in shown)
    assert all(feed["did"].startswith("did:web:localhost%3A") for feed in shown)
    assert all(rkey in publish("list").stdout for rkey in RKEYS)


def test_second_run_keeps_what_it_does_not_own(
    network: Network, publisher: Account, publish: Publish
) -> None:
    publish("publish")
    record = stored(publisher, "everything")
    labels = {"$type": "com.atproto.label.defs#selfLabels", "values": []}
    added = {"labels": labels, "ofSomebodyElse": {"deep": [1, 2]}}
    changed = {**record, **added, "displayName": "Renamed by hand"}
    publisher.put("everything", changed)

    publish("publish", FEED_SERVICE_DID="did:web:feeds.example.com")
    assert stored(publisher, "everything") == {
        **record,
        **added,
        "did": "did:web:feeds.example.com",
    }

    before = {rkey: stored(publisher, rkey) for rkey in RKEYS}
    seq = network.settle()
    publish("publish", FEED_SERVICE_DID="did:web:feeds.example.com")
    assert {rkey: stored(publisher, rkey) for rkey in RKEYS} == before
    assert network.settle() == seq, "an unchanged record was written again"


def test_remove_takes_only_what_is_named(
    network: Network, publisher: Account, publish: Publish
) -> None:
    publish("publish")
    publish("remove", status=2)
    publish("remove", "posts-only")
    assert stored_rkeys(publisher) == set(RKEYS) - {"posts-only"}
    publish("remove", "posts-only")
    publish("remove", "--all")
    assert stored_rkeys(publisher) == set()


def test_wrong_password_and_wrong_account_write_nothing(
    network: Network, publisher: Account, publish: Publish
) -> None:
    assert "password" in publish("publish", status=1, PUBLISH_APP_PASSWORD="no").stderr  # noqa: S106
    other = network.account("other")
    assert publisher.did in publish("publish", status=1, FEED_PUBLISHER_DID=other.did).stderr
    assert stored_rkeys(publisher) == set()


def test_published_feed_is_answered_by_the_service_and_a_removed_one_is_gone(
    network: Network, new_service: Callable[[str], Service]
) -> None:
    service = new_service("sqlite")
    publish = publish_command(network, service.publisher)
    publish("publish", PORT=str(service.port))
    service.start()
    try:
        _read_and_remove(network, service, publish)
    finally:
        service.stop()


def _read_and_remove(network: Network, service: Service, publish: Publish) -> None:
    me = network.account("me")
    me.post("mine")
    network.settle()
    wait_for(lambda: texts(feed_page(me, service, "following").items), ["mine"], service)
    publish("remove", "following", PORT=str(service.port))
    network.settle()
    with pytest.raises(XrpcFailed):
        feed_page(me, service, "following")
    assert texts(feed_page(me, service, "everything").items) == ["mine"]
