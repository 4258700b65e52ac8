"""The whole line, from a websocket to a committed row, against the way of the SDK's template.

Both read the same made-up window of a relay (benchmarks/rig/corpus.py) from another process over
loopback, round by round in turn, each time in a new process and into a new database; and both must
end with the same rows. CPU is that of the reading process: PostgreSQL's own is not in it. Once more
with what the official PDS was recorded to say (benchmarks/rig/recording.py).

Goals: 25 times less CPU a frame than the template (10 times over TLS), 150,000 frames for each
second of CPU at 5 % tracked, 5,000 frames/s beside four busy Python threads (`--busy`).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rig import report
from benchmarks.rig.certificate import make_certificate
from benchmarks.rig.feeder import Feed, Plan, feeding
from benchmarks.rig.reader import CONTENDERS, Reading, Task, run
from benchmarks.rig.stores import KINDS, MakeUrl, store


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of each (default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--percent", nargs="+", type=int, default=[5, 100], help="tracked")
    parser.add_argument("--busy", nargs="+", type=int, default=[1, 4], help="threads beside")
    options = parser.parse_args()
    report.title(f"Ingest, {options.frames:,} frames, median of {options.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder) / "localhost.pem")
        rows = list(_lines(options, certificate))
    head = (
        "line",
        "ours µs",
        "template µs",
        "ratio",
        "ours frames/CPU s",
        "frames/s",
        "MB",
        "rows",
    )
    report.table(head, rows)


def _lines(options: argparse.Namespace, certificate: Path) -> Iterator[tuple[object, ...]]:
    for words, plan in (
        ("", Plan(options.frames)),
        (", TLS", Plan(options.frames, certificate=certificate)),
        (", recorded", Plan(options.frames, is_recorded=True)),
    ):
        with feeding(plan) as feed:
            for kind in options.stores if plan.certificate is None else options.stores[:1]:
                with store(kind) as make_url:
                    for percent in options.percent:
                        name = f"{kind}, {percent} % tracked{words}"
                        yield _line(name, options, feed, make_url, percent, plan)
    with feeding(Plan(options.frames)) as feed, store("sqlite") as make_url:
        for busy in options.busy:
            name = f"sqlite, 5 % tracked, {busy} busy threads"
            yield _beside(name, options, feed, make_url, busy)


def _line(
    name: str,
    options: argparse.Namespace,
    feed: Feed,
    make_url: MakeUrl,
    percent: int,
    plan: Plan,
) -> tuple[object, ...]:
    readings: dict[str, list[Reading]] = {contender: [] for contender in CONTENDERS}
    for _ in range(options.rounds):
        for contender in CONTENDERS:
            task = Task(
                contender,
                feed.url,
                feed.go_port,
                make_url(),
                options.frames,
                percent,
                is_recorded=plan.is_recorded,
            )
            readings[contender].append(run(task, plan.certificate))
    digests = {one.digest for both in readings.values() for one in both}
    assert len(digests) == 1, f"{name}: the rows differ"
    ours, template = (report.median([r.cpu_us for r in readings[c]]) for c in CONTENDERS)
    per_s = report.median([r.frames / r.wall_s for r in readings["ours"]])
    last = readings["ours"][-1]
    ratio, per_cpu = f"{template / ours:.1f}", f"{1e6 / ours:,.0f}"
    return (
        name,
        f"{ours:.1f}",
        f"{template:.1f}",
        ratio,
        per_cpu,
        f"{per_s:,.0f}",
        f"{last.rss_mb:.0f}",
        last.rows,
    )


def _beside(
    name: str, options: argparse.Namespace, feed: Feed, make_url: MakeUrl, busy: int
) -> tuple[object, ...]:
    """The busy threads take all the CPU they get, so what counts is what goes through."""
    readings = [
        run(Task("ours", feed.url, feed.go_port, make_url(), options.frames, 5, busy))
        for _ in range(options.rounds)
    ]
    per_s, last = report.median([one.frames / one.wall_s for one in readings]), readings[-1]
    return name, "", "", "", "", f"{per_s:,.0f}", f"{last.rss_mb:.0f}", last.rows


if __name__ == "__main__":
    main()
