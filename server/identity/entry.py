"""What is known of one DID, and for how long it holds. Pure: the caller supplies the time."""

from dataclasses import dataclass

from server.core.errors import FetchFailed, NotFound
from server.identity.did import Identity

# Seconds after which a document is looked up again, and after which it proves nothing any more. The
# protocol's reference implementation has the same numbers.
FRESH_S = 3600
USABLE_S = 86_400

# A DID is looked up again on demand this often: a bad signature must not become a way to make us
# ask the directory.
REFRESH_EVERY_S = 60

# Seconds after which memory is compared with the database, where the stream's reader marks whose
# document has changed, and every process writes what it looked up.
COMPARE_S = 60

# No failure is remembered for longer.
LONGEST_WAIT_S = 600


@dataclass(slots=True)
class Entry:
    """What is known of one DID. Without an identity it is the memory of a failure, or nothing."""

    identity: Identity | None = None
    checked_us: int = 0
    error: FetchFailed | None = None
    failures: int = 0
    retry_us: int = 0
    # When somebody doubted it, and when it was last compared with the row in the database.
    outdated_us: int = 0
    compared_us: int = 0

    def needs_no_look(self, now_us: int) -> bool:
        """Whether the database is not even asked whether it has something newer."""
        is_settled = self.is_fresh(now_us) or self.is_waiting(now_us)
        return is_settled and abs(now_us - self.compared_us) < COMPARE_S * 1_000_000

    def is_waiting(self, now_us: int) -> bool:
        """Whether a failure is too fresh for another try."""
        # More than that is left if our clock was ahead then.
        return 0 < self.retry_us - now_us <= LONGEST_WAIT_S * 1_000_000

    def age_s(self, now_us: int) -> float:
        """How long ago it was looked up."""
        # Another machine wrote the time: one from the future is as odd as one from the past.
        return abs(now_us - self.checked_us) / 1_000_000

    def is_usable(self, now_us: int) -> bool:
        """Whether it still proves something, if nothing newer can be had."""
        return self.identity is not None and self.age_s(now_us) < USABLE_S

    def is_fresh(self, now_us: int) -> bool:
        """Whether it need not be looked up."""
        return (
            self.identity is not None
            and self.age_s(now_us) < FRESH_S
            # Doubts wait until the last look-up is a little older; then they count.
            and (self.outdated_us < self.checked_us or self.was_looked_up(now_us))
        )

    def was_looked_up(self, now_us: int) -> bool:
        """Whether a look-up succeeded a moment ago."""
        return self.identity is not None and self.age_s(now_us) < REFRESH_EVERY_S

    def known(self) -> Identity:
        """What is known; raises what was remembered in its place."""
        if self.identity is None:
            raise again(self.error)
        return self.identity

    def usable(self, now_us: int) -> Identity:
        """What is known, if it still proves something; raises as `known` does."""
        if self.identity is None or not self.is_usable(now_us):
            raise again(self.error)
        return self.identity


def again(error: FetchFailed | None) -> FetchFailed:
    """A fresh copy: one exception raised by two threads would mix their tracebacks."""
    if isinstance(error, NotFound):
        return NotFound(str(error), error.name, is_for_good=error.is_for_good)
    if error is None:
        return FetchFailed("the identity is not known yet")
    return FetchFailed(str(error), error.retry_after_s)
