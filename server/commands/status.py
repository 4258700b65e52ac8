"""`status`: how far, how complete, how much; for people, or with --json for scripts.

Reads the database, so it works while the service runs and while it is stopped; the database itself
refuses it every write. The network is asked only whose a handle is, where one is given. What is
shown as a handle otherwise is what an account calls itself. docs/commands.md gives the shape of
the JSON.
"""

import dataclasses
import json
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from server.commands.accounts import find_viewer
from server.commands.command import DONE, Command
from server.commands.schema import open_as_it_is
from server.core.config import Config
from server.core.wording import duration, moment, size, span
from server.storage import gaps, leases, ledger, overview
from server.storage.gaps import Gap
from server.storage.leases import Leader
from server.storage.ledger import Completeness, Shortfall, Window
from server.storage.overview import Counts, Queue, Source
from server.storage.replicas import Replicas, ReplicaState
from server.version import VERSION

# The exit status that says: the database answers, but nobody reads the stream.
NOT_READING = 3
SHOWN_GAPS, SHOWN_SHORTFALLS = 20, 20


@dataclass(frozen=True, slots=True)
class Report:
    """Everything at `now_us`; the field names are the keys of the JSON."""

    version: str
    now_us: int
    problem: str | None
    leader: Leader | None
    sources: list[Source]
    queues: list[Queue]
    open_gaps: int
    gaps: list[Gap]
    viewer: str | None
    completeness: Completeness
    counts: Counts
    replicas: list[ReplicaState]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument(
        "--viewer", metavar="ACCOUNT", help="how complete one viewer's feed is: a DID or a handle"
    )


def _run(config: Config, arguments: Namespace) -> int:
    open_as_it_is(config)
    report = make_report(config, arguments.viewer, time.time_ns() // 1000)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        print("\n".join(told(report)))
    return DONE if report.problem is None else NOT_READING


def make_report(config: Config, viewer: str | None, now_us: int) -> Report:
    """All that there is to say; of one viewer's completeness if one is named.

    Raises ConfigError if we know no such viewer.
    """
    window = Window.at(now_us, config.backfill_days, config.retention_days)
    did: str | None = None
    if viewer is None:
        completeness = ledger.of_everybody(window, SHOWN_SHORTFALLS)
    else:
        did, number = find_viewer(config, viewer)
        completeness = ledger.of_viewer(number, window, SHOWN_SHORTFALLS)
    return Report(
        version=VERSION,
        now_us=now_us,
        problem=leases.trouble(now_us),
        leader=leases.leader(),
        sources=overview.sources(),
        queues=overview.queues(now_us),
        open_gaps=gaps.count_open(),
        gaps=gaps.open_gaps(SHOWN_GAPS),
        viewer=did,
        completeness=completeness,
        counts=overview.counts(),
        replicas=Replicas(config.replica_urls, max_connections=1).look(),
    )


def told(report: Report) -> list[str]:
    """The report for people, as lines."""
    lines = [("gapless", f"{report.version}, {report.problem or 'the stream is being read'}")]
    lines += [("leader", text) for text in _leader(report)]
    lines += [("source", _source(one, report.now_us)) for one in report.sources]
    lines += [("backfill", _queue(one, report.now_us)) for one in report.queues]
    whose = "all authors" if report.viewer is None else f"the feed of {report.viewer}"
    lines += [("complete", text) for text in _complete(report.completeness, whose)]
    lines += [("gaps", text) for text in _gaps(report)]
    lines += [("counts", _counts(report.counts))]
    lines += [("replicas", _replica(one)) for one in report.replicas]
    told, last = [], ""
    for title, text in lines:
        told.append(f"{'' if title == last else title:<10}{text}")
        last = title
    return told


def _leader(report: Report) -> list[str]:
    leader = report.leader
    if leader is None:
        return ["nobody yet"]
    heard = duration((report.now_us - leader.alive_us) / 1e6)
    connected = "not connected"
    if leader.connected_us is not None:
        connected = f"connected for {duration((report.now_us - leader.connected_us) / 1e6)}"
    return [f"{leader.holder}, epoch {leader.epoch}, heard {heard} ago, {connected}"]


def _source(source: Source, now_us: int) -> str:
    lag = duration(now_us / 1e6 - source.event_ms / 1e3)
    saved = duration((now_us - source.written_us) / 1e6)
    return f"{source.host} at {source.seq}, {lag} behind the clock, saved {saved} ago"


def _queue(queue: Queue, now_us: int) -> str:
    text = f"{queue.name}: {queue.waiting} waiting, {queue.due} due, {queue.failing} failing"
    if queue.oldest_due_us is not None:
        text += f", the first due for {duration((now_us - queue.oldest_due_us) / 1e6)}"
    return text


def _complete(found: Completeness, whose: str) -> list[str]:
    lines = [f"{whose}: {found.complete} of {found.authors}"]
    if found.since_us is not None:
        lines[0] += f", since {moment(found.since_us)}, until {moment(found.until_us)}"
    lines += [f"{count} {why}" for why, count in found.counts.items()]
    lines += [f"  {shortfall(one)}" for one in found.shortfalls]
    rest = sum(found.counts.values()) - len(found.shortfalls)
    return [*lines, f"  … and {rest} more"] if rest > 0 else lines


def shortfall(one: Shortfall) -> str:
    """One author who is not complete, and why."""
    parts = [one.why]
    if one.status is not None:
        parts.append(one.status)
    if one.error is not None:
        parts.append(f"tried {one.attempts} times, again at {moment(one.retry_us)}: {one.error}")
    if one.gap_reason is not None and one.gap_from_ms is not None and one.gap_to_ms is not None:
        parts.append(f"gap {span(one.gap_from_ms, one.gap_to_ms)}: {one.gap_reason}")
    if one.since_us is not None:
        parts.append(f"complete only since {moment(one.since_us)}")
    return f"{one.did}{f' (calls itself {one.handle})' if one.handle else ''}: {', '.join(parts)}"


def _gaps(report: Report) -> list[str]:
    lines = [f"{report.open_gaps} open"]
    for gap in report.gaps:
        whose, host = gap.did or "everybody", gap.host or "no source"
        lines.append(
            f"  {whose}, {host}, {span(gap.from_ms, gap.to_ms)},"
            f" opened {moment(gap.opened_us)}: {gap.reason}"
        )
    rest = report.open_gaps - len(report.gaps)
    return [*lines, f"  … and {rest} more"] if rest > 0 else lines


def _counts(counts: Counts) -> str:
    more = " or more" if counts.items >= overview.COUNTED_ITEMS else ""
    return (
        f"{counts.viewers} viewers, {counts.authors} authors, {counts.items}{more} items,"
        f" {counts.outside_posts_waiting} posts of strangers to be looked up,"
        f" {size(counts.database_bytes)} of database"
    )


def _replica(one: ReplicaState) -> str:
    behind = "" if one.lag_bytes is None else f", {size(one.lag_bytes)} behind"
    if one.problem is None:
        return f"{one.name}: can be read from{behind}"
    return f"{one.name}: not read from, {one.problem}{behind}: {one.detail}"


COMMAND = Command(
    "status",
    "how far, how complete, how much; exit 3: nobody reads the stream",
    _run,
    _add_arguments,
)
