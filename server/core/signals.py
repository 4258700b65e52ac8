"""A stop that a signal asks for.

A handler runs in the main thread, wherever that is: it may be waiting for the same event, and hold
the lock of it just then. To set the event there would be to wait for itself, for ever, while all
other threads go on. So another thread does it: a bare one, as starting one of `threading` takes
locks as well.
"""

import _thread
import signal
from threading import Event
from types import FrameType


def stop_at_signals(stop: Event) -> None:
    """From now on SIGTERM and SIGINT set the event. For the main thread."""

    def ask(_signum: int, _frame: FrameType | None) -> None:
        _thread.start_new_thread(stop.set, ())

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, ask)
