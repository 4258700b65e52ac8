"""How often something may be done. Pure: the caller supplies the time, and the lock."""


class Budget:
    """So many at once, and then so many for each second."""

    def __init__(self, burst: int, each_s: float) -> None:
        self._burst = burst
        self._each_s = each_s
        self._left = float(burst)
        self._counted_us = 0

    def take(self, now_us: int) -> bool:
        """Take one, if there is one left."""
        passed_s = max(now_us - self._counted_us, 0) / 1_000_000
        self._counted_us = now_us
        self._left = min(self._left + passed_s * self._each_s, float(self._burst))
        if self._left < 1:
            return False
        self._left -= 1
        return True
