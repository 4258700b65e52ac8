"""The live stream at a steady pace: what share of a core the reader takes, and how much memory.

The relay of 2026 says about 500 events a second. Besides the corpus' own authors, so many silent
ones are tracked that there are --tracked in all. Goal at 500 events/s and 200,000 tracked: at most
2 % of a core and 150 MB. The whole process is measured, its start (loading the set) left out of the
CPU and not of the memory; PostgreSQL's own processes are in neither.
"""

import argparse
import dataclasses

from benchmarks.rig import report
from benchmarks.rig.feeder import Plan, feeding
from benchmarks.rig.reader import Task, run
from benchmarks.rig.stores import KINDS, MakeUrl, store

PERCENT = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paces", nargs="+", type=int, default=[500, 2_000, 10_000])
    parser.add_argument("--frames", type=int, default=20_000, help="at most (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="at most (default: %(default)s)")
    parser.add_argument("--tracked", type=int, default=200_000, help="(default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    report.title(f"A steady stream, {options.tracked:,} repos tracked")
    rows = []
    for kind in options.stores:
        with store(kind) as make_url:
            rows += [_row(kind, pace, make_url, options) for pace in options.paces]
    report.table(("store", "asked events/s", "seen events/s", "of a core", "MB at most"), rows)


def _row(
    kind: str, pace: int, make_url: MakeUrl, options: argparse.Namespace
) -> tuple[object, ...]:
    count = min(options.frames, pace * options.seconds)
    with feeding(Plan(count, pace)) as feed:
        task = Task("ours", feed.url, feed.go_port, make_url(), count, PERCENT)
        reading = run(dataclasses.replace(task, silent=options.tracked, pace=pace))
    share, seen = reading.cpu_s / reading.wall_s, reading.frames / reading.wall_s
    return kind, pace, f"{seen:,.0f}", f"{share:.1%}", f"{reading.rss_mb:.0f}"


if __name__ == "__main__":
    main()
