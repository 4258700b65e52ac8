"""How long to wait after a failure. Pure: the caller brings the dice and does the waiting."""

from collections.abc import Callable


def delay_s(attempt: int, first_s: float, limit_s: float, random: Callable[[], float]) -> float:
    """Doubling from `first_s` up to `limit_s`, of which the upper half is left to chance.

    `attempt` counts from 0. Without the chance all clients of a relay come back in one instant.
    """
    full = min(limit_s, first_s * 2.0 ** min(attempt, 30))
    return full * (0.5 + 0.5 * random())
