"""Named places between two durable steps, where tests let the process die as by `kill -9`.

Nothing happens here unless a test armed a point at the start of the process: then, the N-th time
that the process comes by, the kernel ends it at once, with no clean-up, in whatever state. Arming
takes GAPLESS_CRASH_AT and ALLOW_PRIVATE_HOSTS together, and the second is for test networks only.
Disarmed, a point costs a call and a comparison (tens of nanoseconds), and none is in a loop over
events or rows. docs/decisions.md says why they are in the code at all.
"""

import os
import signal
import threading

VARIABLE = "GAPLESS_CRASH_AT"

# Each is passed in the order of its group. "inside" is before the transaction ends: none of its
# rows may be there afterwards. The others stand between two things that last.
POINTS = (
    "migrate: locked",
    "migrate: applied",
    "lead: taken",
    "tracked: read, not confirmed",
    "tracked: confirmed",
    "batch: accounts numbered",
    "batch: inside",
    "batch: committed",
    "gap: not yet written",
    "gap: inside",
    "gap: opened",
    "snapshot: inside",
    "snapshot: stored",
    "page: inside",
    "page: committed",
    "newest pages: marked",
    "finish: all pages committed",
    "finish: inside, gaps not closed",
    "finish: live and gaps closed",
    "absence: inside",
    "absence: settled",
    "failure: not yet noted",
    "failure: noted",
    "group: committed, nobody told",
    "outside post: asked, not settled",
    "outside post: settled",
    "viewer: numbered",
    "viewer: inside",
    "viewer: seen and job queued",
)


class _Armed:
    """One point, and how often it is still passed unharmed."""

    def __init__(self, name: str, passes: int) -> None:
        self.name = name
        self.passes = passes
        self.lock = threading.Lock()

    def reach(self, name: str) -> None:
        if name != self.name:
            return
        with self.lock:
            self.passes -= 1
            if self.passes > 0:
                return
            # Straight to the file: whatever is buffered dies with the process.
            os.write(2, f"crash point reached: {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


_armed: _Armed | None = None


def crash_point(name: str) -> None:
    """Die here if a test wants it."""
    if _armed is not None:
        _armed.reach(name)


def arm(text: str) -> None:
    """Arm what GAPLESS_CRASH_AT says: NAME or NAME#N, for the N-th time. Raises ValueError."""
    global _armed
    name, mark, count = text.partition("#")
    if name not in POINTS:
        raise ValueError(f"no crash point is called {name!r}")
    if mark and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ValueError(f"{count!r} is no count")
    _armed = _Armed(name, int(count or 1))
