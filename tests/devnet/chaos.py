"""Faults at random moments: our service killed and restarted, its stream cut. Each is counted."""

from __future__ import annotations

from random import Random

from tests.devnet.client import Network
from tests.devnet.service import Service

# Chances after each batch of writes.
KILL, RESTART, CUT = 0.06, 0.3, 0.08


class Chaos:
    """Called between batches of writes. While the service is down the world goes on."""

    def __init__(self, network: Network, service: Service, seed: int) -> None:
        self.network = network
        self.service = service
        self.rng = Random(seed)  # noqa: S311
        self.kills = 0
        self.cuts = 0

    def __call__(self) -> None:
        chance = self.rng.random()
        if not self.service.is_running:
            if chance < RESTART:
                self.service.start()
        elif chance < KILL:
            self.service.kill()
            self.kills += 1
        elif chance < KILL + CUT:
            # None if our service is just reconnecting after the last one.
            self.cuts += self.network.drop_streams()

    def end(self) -> None:
        if not self.service.is_running:
            self.service.start()
