"""Our service is killed and its stream cut while people write; afterwards nothing is missing."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from tests.devnet.chaos import Chaos
from tests.devnet.client import Network
from tests.devnet.crowd import Crowd
from tests.devnet.judge import Judge
from tests.devnet.network import OfficialNetwork
from tests.devnet.reading import open_feed, texts, wait_for, whole_feed
from tests.devnet.service import Service
from tests.devnet.world import Person, World

pytestmark = pytest.mark.devnet

PEOPLE = 6
DEEDS = 80


@pytest.fixture
def world(network: Network) -> World:
    return World([Person(network.account(f"p{number}")) for number in range(PEOPLE)])


def history(world: World, network: Network, seed: int) -> Crowd:
    """A crowd that has written something before anybody opens a feed."""
    crowd = Crowd(world, seed)
    crowd.future_dates = False
    crowd.act(DEEDS)
    crowd.wake_all()
    crowd.future_dates = True
    network.settle()
    return crowd


def open_feeds(world: World, service: Service) -> None:
    for person in world.people:
        if not person.is_gone:
            open_feed(person.account, service, "everything")


def assert_equal_to_official(
    crowd: Crowd, network: Network, service: Service, *, fetches_future: bool = False
) -> None:
    crowd.wake_all()
    judge = Judge(network, crowd.world, service, fetches_future=fetches_future)
    assert judge.compare_all() > DEEDS


def test_kills_and_cuts_at_random_moments_lose_nothing(
    network: Network, service: Service, world: World
) -> None:
    crowd = history(world, network, seed=1)
    open_feeds(world, service)
    chaos = Chaos(network, service, seed=1)
    while chaos.kills < 3 or chaos.cuts < 3:
        crowd.act(DEEDS, between=chaos)
    chaos.end()
    # A PDS asked after a restart is ahead of the stream: it may call an account inactive whose
    # earlier commits are still to come, and these are then fetched.
    assert_equal_to_official(crowd, network, service, fetches_future=True)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3])
def test_kill_during_the_first_load_is_made_good(
    network: Network, service: Service, world: World, delay_s: float
) -> None:
    crowd = history(world, network, seed=2)
    # The first look makes the service fetch follows and histories; it dies in the midst of that.
    open_feeds(world, service)
    time.sleep(delay_s)
    service.kill()
    service.start()
    assert_equal_to_official(crowd, network, service)


def test_stream_that_is_cut_again_and_again_is_resumed_where_it_broke(
    network: Network, service: Service, world: World
) -> None:
    crowd = history(world, network, seed=3)
    open_feeds(world, service)
    for _ in range(6):
        crowd.act(DEEDS // 2)
        wait_for(lambda: network.drop_streams() > 0, True, service)
    assert_equal_to_official(crowd, network, service)


def test_extra_sync_and_identity_frames_change_nothing(
    network: Network, service: Service, world: World
) -> None:
    crowd = history(world, network, seed=4)
    open_feeds(world, service)
    people = itertools.cycle(world.people)

    def announce() -> None:
        account = next(person for person in people if not person.is_gone).account
        network.control("emit-sync", did=account.did)
        network.control("emit-identity", did=account.did, handle=account.handle)

    crowd.act(DEEDS * 2, between=announce)
    assert_equal_to_official(crowd, network, service)


def test_events_that_nobody_replays_are_fetched_again(
    forgetful: OfficialNetwork, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'gapless.db'}"
    with Network(forgetful.info) as network:
        service = Service(network.info, network.account("publisher"), url, tmp_path)
        service.publish()
        service.start()
        try:
            _miss_events(network, service)
        finally:
            service.stop()


def _miss_events(network: Network, service: Service) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    kept, deleted = ann.post("kept"), ann.post("deleted while we were away")
    network.settle()

    def shown() -> list[str]:
        return texts(whole_feed(me, service, "everything"))

    wait_for(shown, ["deleted while we were away", "kept"], service)
    service.kill()
    ann.post("written while we were away")
    ann.delete(deleted)
    ann.repost(kept)
    network.settle()
    # Let the window pass over all of it, and no replay can help: a duration is the very point.
    time.sleep(1.5)
    service.start()
    after = ["kept <- ann", "written while we were away", "kept"]
    wait_for(shown, after, service, seconds=30.0)
    ann.post("live again")
    network.settle()
    wait_for(shown, ["live again", *after], service)
