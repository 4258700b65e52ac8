"""Takes the interpreter back from busy threads sooner, while what a source tells is of the past.

The reader wants it back after each read, and as Python has it, four busy threads would hold it up
to hundreds of frames a second. Those that fetch, and are many, go better with fewer changes.
"""

import sys

# How long a busy thread keeps the interpreter from others that want it: as Python has it, and while
# we are behind.
SWITCH_SECONDS, HURRIED_SWITCH_SECONDS = 0.005, 0.0005
HURRY_SECONDS = 1.0


class Hurry:
    """Of one connection. Times are monotonic."""

    def __init__(self) -> None:
        # How many messages there were when that was last looked at, and until when to hurry.
        self._messages, self._until_s = 0, 0.0
        self._is_on = False

    def hear(self, messages: int, now_s: float, *, is_live: bool) -> None:
        """How many messages have come so far, and whether the last ones are of now."""
        if messages != self._messages:
            self._messages = messages
            self._until_s = 0.0 if is_live else now_s + HURRY_SECONDS

    def go(self, now_s: float) -> None:
        """Have it as it must be now."""
        must_hurry = now_s < self._until_s
        # Who was not in a hurry leaves it as it is: another source that is read beside may be.
        if must_hurry or self._is_on:
            sys.setswitchinterval(HURRIED_SWITCH_SECONDS if must_hurry else SWITCH_SECONDS)
        self._is_on = must_hurry

    def end(self) -> None:
        """The connection is over."""
        if self._is_on:
            sys.setswitchinterval(SWITCH_SECONDS)
