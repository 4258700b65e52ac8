"""The whole line from a Jetstream, of both versions, plain and compressed, against a relay's.

All tell the same made-up window (benchmarks/rig/corpus.py) over loopback from another process,
round by round in turn, each time to a new process with a new database; and all must end with the
same rows. A Jetstream leaves out what we do not ask for, so it sends about a third as many events
as a relay sends frames. That is soon over, so Jetstreams tell --laps such windows; `--laps 1`
compares the rows with the relay's as well. The dictionaries are trained on the window's beginning.

Goal: 200,000 events of uncompressed JSON for each second of CPU, the database included.
"""

import argparse
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache

from benchmarks.rig import corpus, jetstream, report
from benchmarks.rig.feeder import Feed, Plan, feeding
from benchmarks.rig.reader import Reading, Task, run
from benchmarks.rig.stores import KINDS, MakeUrl, store

HEAD = ("line", "events", "µs an event", "events/CPU s", "events/s", "bytes an event", "MB", "rows")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--laps", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--percent", nargs="+", type=int, default=[0, 5, 100], help="tracked")
    options = parser.parse_args()
    report.title(f"Jetstreams, {options.frames:,} frames, median of {options.rounds}")
    rows: list[tuple[object, ...]] = []
    with ExitStack() as stack:
        feeds = {
            kind: stack.enter_context(
                feeding(Plan(options.frames, kind=kind, laps=_laps(kind, options)))
            )
            for kind in jetstream.KINDS
        }
        for name in options.stores:
            with store(name) as make_url:
                for percent in options.percent:
                    rows += _compare(name, options, feeds, make_url, percent)
    report.table(HEAD, rows)


def _compare(
    name: str,
    options: argparse.Namespace,
    feeds: dict[str, Feed],
    make_url: MakeUrl,
    percent: int,
) -> list[tuple[object, ...]]:
    readings: dict[str, list[Reading]] = {kind: [] for kind in feeds}
    for _ in range(options.rounds):
        for kind, feed in feeds.items():
            task = Task("ours", feed.url, feed.go_port, make_url(), options.frames, percent)
            readings[kind].append(run(replace(task, dictionary=feed.dictionary, laps=feed.laps)))
    for laps in {_laps(kind, options) for kind in feeds}:
        same = [of_kind for kind, of_kind in readings.items() if _laps(kind, options) == laps]
        assert len({one.digest for of_kind in same for one in of_kind}) == 1, name
    return [
        _row(
            f"{name}, {percent} % tracked, {kind}",
            _size_of(kind, options.frames),
            _laps(kind, options),
            of_kind,
        )
        for kind, of_kind in readings.items()
    ]


def _laps(kind: str, options: argparse.Namespace) -> int:
    return 1 if kind == "relay" else int(options.laps)


@lru_cache
def _size_of(kind: str, frames: int) -> tuple[int, int]:
    """Messages of one lap, and their bytes."""
    made = corpus.load(frames).frames if kind == "relay" else jetstream.messages(frames, kind)
    return len(made), sum(map(len, made))


def _row(name: str, lap: tuple[int, int], laps: int, readings: list[Reading]) -> tuple[object, ...]:
    events, size = lap[0] * laps, lap[1] * laps
    cpu_s = report.median([one.cpu_s for one in readings])
    wall_s = report.median([one.wall_s for one in readings])
    last = readings[-1]
    return (
        name,
        f"{events:,}",
        f"{cpu_s / events * 1e6:.1f}",
        f"{events / cpu_s:,.0f}",
        f"{events / wall_s:,.0f}",
        f"{size / events:,.0f}",
        f"{last.rss_mb:.0f}",
        last.rows,
    )


if __name__ == "__main__":
    main()
