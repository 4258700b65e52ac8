"""How results are told: medians, ratios, and on what machine."""

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

__all__ = ["median", "rss_mb", "table", "timed", "title"]


def title(text: str) -> None:
    """The headline, and what the machine is; its noise is in all numbers that are no ratios."""
    print(f"\n{text}")
    load = os.getloadavg()[0]
    print(
        f"({os.cpu_count()} shared cores, load {load:.1f}; Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version})",
        flush=True,
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def rss_mb() -> float:
    """The memory that is this process's own, now: without the pages of mapped files."""
    with open("/proc/self/status") as status:
        return int(status.read().partition("RssAnon:")[2].split()[0]) * 1024 / 1e6


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    """Columns as wide as they need to be; the first to the left, the others to the right."""
    texts = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
    for row in texts:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join((row[0].ljust(len(first)), *rest)), flush=True)


if sys.platform != "linux":
    raise SystemExit("The benchmarks read /proc: Linux only.")
