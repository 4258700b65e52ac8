"""What was read of a source is taken in by turns with all else that the event loop does.

A megabyte of frames is a matter of milliseconds, as a rule. But the peer decides what is in it: 500
bytes of zstd may stand for 8 MB, which takes 10 to 30 ms, so a megabyte of these takes a minute.
Words on tracked accounts, and a slow database, take their time as well.

Promises. What was read is taken in in its order, in steps that are each done as a whole. When a
turn has lasted TURN_SECONDS after a step, the event loop goes round once: a stop is heard, other
sources are read, signs of life are given. Then the next turn goes on where this one was. Until all
is taken in, nothing more is read from that socket, whoever asks for it, and nobody is told how the
connection ended. After `drop` no step is done any more: what is left was not noted, so no cursor
claims it, and the next connection brings it again.

A peer that means harm has one turn in each round of the loop, as everybody beside it has theirs.
The pings among what it sent are answered at the end of the turn that came to them; those that are
still in the kernel wait until they are read. That it is not heard meanwhile is our doing: it counts
neither as silent nor as dead (websocket.py), and is read on until the end or a stop.

Bounds: of each connection one read waits (frames.py), where it lies. A turn is TURN_SECONDS and a
step: one compressed message, STEP_MESSAGES others (reading.py), or finding RUN_MESSAGES (frames.py)
and passing over them; and what the database takes for the batch that such a step fills. How long
one message takes is not bounded but by its length: where it is all brackets, 8 MB take a second.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

# A stop is looked for ten times a second, and so it is heard in time also of several such sources.
TURN_SECONDS = 0.05


class Turns:
    """Those of one connection.

    `after` is called after each turn; `fail` with what that or a step raised, and no step is done
    any more.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        after: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._transport = transport
        self._after = after
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        # What is left of the last read; None: all of it was taken in.
        self._steps: Iterable[None] | None = None
        self._end: Callable[[], None] | None = None

    @property
    def is_behind(self) -> bool:
        """Whether something that was read waits for a turn."""
        return self._steps is not None

    def take_in(self, steps: Iterable[None]) -> None:
        """Take in what was just read, now or in turns to come. Raises nothing."""
        self._steps = steps
        if not self._is_last_turn(steps):
            self._transport.pause_reading()
            self._loop.call_soon(self._go_on)

    def listen(self) -> None:
        """Read what comes, as soon as what came is taken in."""
        if not self.is_behind:
            self._transport.resume_reading()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call this when all that was read is taken in, or failed: now, if it is; once."""
        if self.is_behind:
            self._end = call
        else:
            call()

    def drop(self) -> None:
        """Take nothing in any more of what was read."""
        self._steps = None

    def _go_on(self) -> None:
        if self._steps is None:
            # It was dropped meanwhile.
            return
        if not self._is_last_turn(self._steps):
            self._loop.call_soon(self._go_on)
        else:
            self._transport.resume_reading()

    def _is_last_turn(self, steps: Iterable[None]) -> bool:
        """Take a turn. Whether nothing is left then, be it for an error."""
        try:
            is_done = _goes_through(steps)
            self._after()
        except BaseException as error:  # noqa: BLE001  it is raised again by websocket.py
            self._fail(error)
            is_done = True
        if is_done:
            end = self._end
            self._steps = self._end = None
            if end is not None:
                end()
        return is_done


def _goes_through(steps: Iterable[None]) -> bool:
    """Whether all the steps that there are left were done in one turn."""
    until = monotonic() + TURN_SECONDS
    # `all` would be shorter, and makes one generator more for each read.
    for _ in steps:  # noqa: SIM110
        if monotonic() >= until:
            return False
    return True
