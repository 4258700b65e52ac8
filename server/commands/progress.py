"""How far a long command is: a moving bar on a terminal, and a plain line at times elsewhere."""

import sys
import time

_LINE_SECONDS = 5.0
_WIDTH = 30


class Progress:
    """Tells on standard error, so that results stay alone on standard output."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.is_terminal = sys.stderr.isatty()
        self.next_line = time.monotonic() + _LINE_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done."""
        share = done / total if total else 1.0
        if self.is_terminal:
            bar = "#" * round(share * _WIDTH)
            end = "\n" if done >= total else ""
            line = f"\r{self.what} [{bar:<{_WIDTH}}] {share:4.0%}"
            print(line, end=end, file=sys.stderr, flush=True)
        elif time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + _LINE_SECONDS
            print(f"{self.what}: {share:.0%}", file=sys.stderr, flush=True)
