"""Decoding alone, on frames in memory: what a frame costs before anything is done with it.

Three ways over the same frames in turn: ours, ours without the look at the head, and the SDK's
(parse, CAR, models), which the template uses. On generated frames, and on those that were recorded
from the official PDS.
"""

import argparse
import gc
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from atproto import CAR, firehose_models, models, parse_subscribe_repos_message

from benchmarks.rig import corpus, report
from server.ingest.relay import decode_frame, decode_whole
from server.storage.repos import ITEMS
from tests.devnet.record import recorded

Frames = list[bytes]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    made = corpus.load(options.frames)
    report.title(f"Decoding, {options.frames:,} frames, median of {options.rounds}")
    rows = []
    for percent in (0, 5, 100):
        wants = dict.fromkeys(made.tracked(percent), ITEMS)
        rows.append(_row(f"generated, {percent} % tracked", made.frames, wants, options.rounds))
    devnet = recorded() * 50
    rows.append(_row("recorded, nobody tracked", devnet, {}, options.rounds))
    report.table(("frames", "ours µs", "whole µs", "SDK µs", "SDK / ours", "ours frames/s"), rows)


def _row(name: str, frames: Frames, wants: dict[str, int], rounds: int) -> tuple[object, ...]:
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way, decode in _ways(wants):
            # What one way leaves behind must not be cleared away in the time of the next.
            gc.collect()
            seconds = report.timed(partial(deque, map(decode, frames), 0))
            took.setdefault(way, []).append(seconds / len(frames) * 1e6)
    ours, whole, sdk = (report.median(times) for times in took.values())
    return (
        name,
        f"{ours:.2f}",
        f"{whole:.2f}",
        f"{sdk:.1f}",
        f"{sdk / ours:.0f}",
        f"{1e6 / ours:,.0f}",
    )


def _ways(wants: dict[str, int]) -> Iterator[tuple[str, Callable[[bytes], object]]]:
    yield "ours", lambda frame: decode_frame(frame, wants)
    yield "whole", lambda frame: decode_whole(frame, wants)
    yield "sdk", _decode_as_the_template


def _decode_as_the_template(frame: bytes) -> object:
    event = parse_subscribe_repos_message(firehose_models.MessageFrame.from_bytes(frame))
    if not isinstance(event, models.ComAtprotoSyncSubscribeRepos.Commit) or not event.blocks:
        return event
    blocks = CAR.from_bytes(event.blocks).blocks
    found = (blocks.get(op.cid) for op in event.ops if op.cid)
    return [models.get_or_create(record, strict=False) for record in found if record is not None]


if __name__ == "__main__":
    main()
