"""Many quiet accounts with a past, quickly: for load and for pages of results. No events."""

import random
from typing import Any

from simnet.account import FOLLOW, POST, Account
from simnet.clock import iso
from simnet.network import Network
from simnet.repo import Write
from simnet.tid import tid_at

_DAY_US = 86_400_000_000


def populate(
    network: Network,
    accounts: int,
    *,
    posts_each: int = 35,
    follows_each: int = 5,
    days: float = 7,
    seed: int = 1,
) -> list[Account]:
    """Create accounts p0, p1, … that post at random times and follow one another at random."""
    rng = random.Random(seed)
    now_us = network.clock()
    hosts = len(network.pds)
    people = [
        network.create_account(f"p{number}", pds=number % hosts, emit=False)
        for number in range(accounts)
    ]
    for person in people:
        times = sorted(now_us - rng.randrange(1, round(days * _DAY_US)) for _ in range(posts_each))
        others = rng.sample(people, min(follows_each, len(people)))
        stamp = iso(now_us)
        writes = [
            Write("create", POST, tid_at(at_us, number), _note(number, at_us))
            for number, at_us in enumerate(times)
        ]
        writes += [
            Write("create", FOLLOW, None, {"subject": other.did, "createdAt": stamp})
            for other in others
            if other is not person
        ]
        person.apply(writes, at_us=now_us, emit=False)
    return people


def _note(number: int, at_us: int) -> dict[str, Any]:
    return {"text": f"note {number}", "createdAt": iso(at_us)}
