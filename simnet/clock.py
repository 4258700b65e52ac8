"""Time as the protocol writes it, and the clocks a network can run on."""

import threading
import time
from datetime import UTC, datetime


def iso(time_us: int) -> str:
    """A microsecond as the servers print it: UTC, milliseconds, `Z`."""
    seconds, micros = divmod(time_us, 1_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{micros // 1000:03d}Z"


def time_us_of_iso(text: object) -> int | None:
    """The microsecond of an ISO text with a zone; None if it is no such thing."""
    if not isinstance(text, str) or "T" not in text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return round(moment.timestamp() * 1_000_000)


def wall_clock_us() -> int:
    """The time of the machine."""
    return time.time_ns() // 1000


class PatientClock:
    """The time of the machine, no millisecond twice: whoever asks again waits for the next one.

    So what is written one after the other stands so in a feed, whose order knows no less.
    """

    def __init__(self) -> None:
        self._last_ms = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """The time, in microseconds."""
        with self._lock:
            while (now_us := wall_clock_us()) // 1000 == self._last_ms:
                time.sleep(0.0002)
            self._last_ms = now_us // 1000
            return now_us


class SteppingClock:
    """A clock that moves only when it is asked: the same calls see the same times."""

    def __init__(self, start_us: int, step_us: int = 1000) -> None:
        self.now_us = start_us
        self.step_us = step_us

    def __call__(self) -> int:
        """One step on."""
        self.now_us += self.step_us
        return self.now_us

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_us += round(seconds * 1_000_000)
