"""What a request writes beside its answer, and can do without where nothing can be written.

A full disk looks like that, a file system that has turned read-only, or somebody else who writes
and does not end. Whoever asks is shown what there is; what is to be read for it raises for itself
if the database is gone. It is said in the log, once in TELL_SECONDS.

A write may wait for others before it fails (opening.py: TURN_SECONDS), and one answer may have
several. So after one that failed none is tried for REST_SECONDS.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from server.storage.allowance import OutOfTimeError
from server.storage.database import DatabaseError

log = logging.getLogger(__name__)

TELL_SECONDS = 600.0
# The AppView gives up after 5 s.
REST_SECONDS = 5.0

R = TypeVar("R")


class SpareWrites:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._silent_until = self._rests_until = 0.0

    def attempt(self, what: str, write: Callable[[], R]) -> R | None:
        """Do a write of its own, `what` in words; its result, or None where it could not be."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            return write()
        except OutOfTimeError:
            # That is whoever asks, and no sign that nothing can be written.
            return None
        except DatabaseError as error:
            self._rests_until = time.monotonic() + REST_SECONDS
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + TELL_SECONDS
                log.warning("%s cannot be written down: %s", what, error)
            return None
