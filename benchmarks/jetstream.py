"""The whole line from a Jetstream, of both versions, plain and compressed, and from a relay.

Ours against the way of the SDK's template (benchmarks/rig/template_jetstream.py), round by round in
turn, each time in a new process and into a new database; all are told the same over loopback, and
must end with the same rows. Once more with what the official PDS was recorded to say
(benchmarks/rig/recording.py); the dictionaries are those of the made-up window, trained on its
beginning. A Jetstream leaves out what we do not ask for, so of the made-up window it sends about a
third as many events as a relay sends frames. That is soon over, so it tells --laps such windows;
`--laps 1` compares these rows with the relay's as well. CPU is that of the reading process:
PostgreSQL's own is not in it.

Goal: 200,000 events of uncompressed JSON for each second of CPU, the database included, at 5 %
tracked.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.rig import jetstream, report
from benchmarks.rig.feeder import Feed, Plan, feeding
from benchmarks.rig.reader import CONTENDERS, Reading, Task, run
from benchmarks.rig.stores import KINDS, MakeUrl, store

HEAD = (
    "line",
    "events",
    "ours µs",
    "template µs",
    "ratio",
    "ours events/CPU s",
    "ours events/s",
    "template events/s",
    "bytes an event",
    "ours MB",
    "rows",
)
TOLD = ("made-up", "recorded")
Source = tuple[Plan, Feed]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--laps", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of each (default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--percent", nargs="+", type=int, default=[5], help="tracked")
    parser.add_argument("--kinds", nargs="+", choices=jetstream.KINDS, default=jetstream.KINDS)
    parser.add_argument("--told", nargs="+", choices=TOLD, default=TOLD)
    options = parser.parse_args()
    report.title(f"Jetstreams, {options.frames:,} frames, median of {options.rounds}")
    report.table(HEAD, list(_lines(options)))


def _lines(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    for told in options.told:
        with ExitStack() as stack:
            plans = [_plan(kind, options, told) for kind in options.kinds]
            sources = [(plan, stack.enter_context(feeding(plan))) for plan in plans]
            for name in options.stores:
                with store(name) as make_url:
                    for percent in options.percent:
                        line = f"{name}, {percent} % tracked, {told}"
                        yield from _compare(line, options.rounds, sources, make_url, percent)


def _plan(kind: str, options: argparse.Namespace, told: str) -> Plan:
    is_recorded = told == "recorded"
    return Plan(
        options.frames,
        kind=kind,
        laps=1 if is_recorded or kind == "relay" else options.laps,
        is_recorded=is_recorded,
        dictionary=jetstream.dictionary_of(options.frames, kind),
    )


def _compare(
    line: str, rounds: int, sources: list[Source], make_url: MakeUrl, percent: int
) -> list[tuple[object, ...]]:
    readings: dict[str, dict[str, list[Reading]]] = {
        plan.kind: {contender: [] for contender in CONTENDERS} for plan, _ in sources
    }
    for _ in range(rounds):
        for plan, feed in sources:
            for contender, found in readings[plan.kind].items():
                found.append(run(_task(contender, plan, feed, make_url(), percent)))
    for laps in {plan.laps for plan, _ in sources}:
        kinds = [plan.kind for plan, _ in sources if plan.laps == laps]
        digests = {one.digest for kind in kinds for both in readings[kind].values() for one in both}
        assert len(digests) == 1, f"{line}: the rows differ"
    return [_row(f"{line}, {plan.kind}", feed, readings[plan.kind]) for plan, feed in sources]


def _task(contender: str, plan: Plan, feed: Feed, url: str, percent: int) -> Task:
    return Task(
        contender,
        feed.url,
        feed.go_port,
        url,
        plan.count,
        percent,
        dictionary=None if plan.dictionary is None else str(plan.dictionary),
        laps=plan.laps,
        is_recorded=plan.is_recorded,
    )


def _row(name: str, feed: Feed, readings: dict[str, list[Reading]]) -> tuple[object, ...]:
    events = feed.messages
    ours, template = (
        report.median([one.cpu_s for one in readings[who]]) / events for who in CONTENDERS
    )
    ours_s, template_s = (
        report.median([one.wall_s for one in readings[who]]) / events for who in CONTENDERS
    )
    last = readings["ours"][-1]
    return (
        name,
        f"{events:,}",
        f"{ours * 1e6:.1f}",
        f"{template * 1e6:.1f}",
        f"{template / ours:.1f}",
        f"{1 / ours:,.0f}",
        f"{1 / ours_s:,.0f}",
        f"{1 / template_s:,.0f}",
        f"{feed.size / events:,.0f}",
        f"{last.rss_mb:.0f}",
        last.rows,
    )


if __name__ == "__main__":
    main()
