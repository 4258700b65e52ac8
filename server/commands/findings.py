"""What `doctor` says of each thing it looked at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was seen, and what to do if it is not right."""

    name: str
    verdict: str
    seen: str
    advice: str = ""


# Looks at one thing, and may find several.
Check = Callable[[], Iterator[Finding]]


def at_worst(name: str, value: float, warn: float, fail: float, seen: str, advice: str) -> Finding:
    """A number that must not be high: a warning from `warn` up, a failure from `fail` up."""
    verdict = FAIL if value >= fail else WARN if value >= warn else OK
    return Finding(name, verdict, seen, "" if verdict == OK else advice)
