"""TIDs: the sortable 13 letters of record keys and revs. Reads no clock."""

ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
LENGTH = 13


def tid_at(time_us: int, clock_id: int = 0) -> str:
    """The TID of a microsecond and a 10 bit clock id."""
    number = (time_us << 10) | (clock_id & 0x3FF)
    letters = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 32)
        letters.append(ALPHABET[digit])
    return "".join(reversed(letters))


def time_us_of(tid: str) -> int:
    """The microsecond that a TID claims."""
    number = 0
    for letter in tid:
        number = number * 32 + ALPHABET.index(letter)
    return number >> 10


class TidClock:
    """Hands out rising TIDs, whatever the time it is given does."""

    def __init__(self, clock_id: int) -> None:
        self.clock_id = clock_id
        self._last_us = 0

    def next(self, now_us: int) -> str:
        """A TID at `now_us`, or a microsecond after the last one if that is later."""
        self._last_us = max(now_us, self._last_us + 1)
        return tid_at(self._last_us, self.clock_id)
