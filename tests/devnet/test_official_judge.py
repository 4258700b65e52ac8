"""The official timeline as the judge of ours: a random crowd, random faults, item by item.

DEVNET_SEED replays a run (kills fall at the same deeds, if not at the same microsecond);
DEVNET_ROUNDS and DEVNET_ACTIONS make it longer or shorter.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.devnet.chaos import Chaos
from tests.devnet.client import Network
from tests.devnet.crowd import BATCHED, Crowd
from tests.devnet.judge import Judge
from tests.devnet.network import OfficialNetwork
from tests.devnet.reading import open_feed
from tests.devnet.service import Service
from tests.devnet.world import Person, World

pytestmark = pytest.mark.devnet

VIEWERS, STRANGERS = 8, 2
SEED = int(os.environ.get("DEVNET_SEED") or secrets.randbelow(10**6))
ROUNDS = int(os.environ.get("DEVNET_ROUNDS") or 3)
ACTIONS = int(os.environ.get("DEVNET_ACTIONS") or 400)


def test_feeds_equal_the_official_timeline_item_by_item(network: Network, service: Service) -> None:
    done, chaos = play(network, service, ROUNDS, ACTIONS)
    if ROUNDS * ACTIONS >= 1000:
        assert {*BATCHED, "delete_account", "deactivate", "activate"} <= done
        assert chaos.kills > 0
        assert chaos.cuts > 0


def test_feeds_stay_equal_when_the_stream_forgets_what_happened_while_we_were_away(
    forgetful: OfficialNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "gapless.db"
    with Network(forgetful.info) as network:
        service = Service(network.info, network.account("publisher"), f"sqlite:///{path}", tmp_path)
        service.publish()
        service.start()
        try:
            network.settle()
            _, chaos = play(network, service, max(1, ROUNDS - 1), ACTIONS)
        finally:
            service.stop()
    with closing(sqlite3.connect(path)) as connection:
        reasons = Counter(reason for (reason,) in connection.execute("SELECT reason FROM gaps"))
    say(f"gaps by reason {dict(reasons)}")
    if ROUNDS * ACTIONS >= 1000:
        assert chaos.kills > 0
        assert reasons["cursor outdated"] > 0


def play(network: Network, service: Service, rounds: int, actions: int) -> tuple[set[str], Chaos]:
    """A crowd at work, and every feed judged after each round; what was done at least once."""
    say(f"DEVNET_SEED={SEED} DEVNET_ROUNDS={ROUNDS} DEVNET_ACTIONS={ACTIONS}")
    world = World(
        [
            Person(network.account(f"p{number}"), is_stranger=number >= VIEWERS)
            for number in range(VIEWERS + STRANGERS)
        ]
    )
    crowd, chaos = Crowd(world, SEED), Chaos(network, service, SEED)

    # Round 0 is history: written before anybody opens a feed, so it must be backfilled. All viewers
    # open one, so they are tracked from here on and the order of their items is no guess.
    crowd.future_dates = False
    crowd.act(actions)
    crowd.wake_all()
    network.settle()
    for person in world.people[:VIEWERS]:
        if person.is_gone:
            continue
        open_feed(person.account, service, "everything")
    judge(Judge(network, world, service), 0)

    crowd.future_dates = True
    for number in range(1, rounds + 1):
        crowd.act(actions, between=chaos)
        chaos.end()
        if number == rounds:
            crowd.wake_all()
        limit = (100, 30, 50)[number % 3]
        judge(Judge(network, world, service, limit, fetches_future=True), number)

    say(f"deeds {dict(world.done)}, kills {chaos.kills}, cuts {chaos.cuts}")
    return set(world.done), chaos


def judge(judge: Judge, number: int) -> None:
    began = time.monotonic()
    try:
        agreed = judge.compare_all()
    except AssertionError as difference:
        raise AssertionError(f"round {number} of DEVNET_SEED={SEED}: {difference}") from None
    say(
        f"round {number}: {judge.world.done.total()} deeds so far, {agreed} timeline items agree, "
        f"judged in {time.monotonic() - began:.1f} s"
    )


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - shown when the test fails, or with -s
