"""The tracked set: memory, time to load, to look up, and until a change is seen; on SQLite.

Goals for 2,000,000 repos (--count): at most 300 MB, and a change seen within a second. Baseline for
the look-up: the same question in SQL.
"""

import argparse
import random
import time
from collections.abc import Iterator

from benchmarks.rig import report
from benchmarks.rig.stores import store
from server.ingest.tracked import TrackedSet
from server.storage import repos
from server.storage.authors import author_id, author_ids
from server.storage.database import close_database, execute, write_transaction
from server.storage.many_rows import insert_rows
from server.storage.migrate import migrate
from server.storage.opening import open_database

LOOK_UPS = 200_000
CHUNK = 50_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000, help="repos (default: %(default)s)")
    count = parser.parse_args().count
    report.title(f"Tracked set of {count:,} repos")
    with store("sqlite") as make_url:
        open_database(make_url())
        migrate()
        _fill(count)
        before_mb = report.rss_mb()
        tracked = TrackedSet()
        load_s = report.timed(tracked.refresh)
        assert len(tracked.wants) == count
        grown_mb = report.rss_mb() - before_mb
        each = grown_mb / count * 1e6
        print(f"load           {load_s:.2f} s, {grown_mb:.0f} MB ({each:.0f} bytes a repo)")
        _look_up(tracked, count)
        _see_changes(tracked)
        close_database()


def _fill(count: int) -> None:
    execute("UPDATE counters SET value = 1 WHERE name = 'tracked'")
    for start in range(0, count, CHUNK):
        numbers = range(start + 1, min(start + CHUNK, count) + 1)
        with write_transaction():
            insert_rows("INSERT INTO authors (id, did)", [(n, _did(n)) for n in numbers])
            insert_rows(
                "INSERT INTO repos (author_id, state, wants, epoch, tracked_version)",
                [(n, repos.LIVE, repos.ITEMS, 1, 1) for n in numbers],
            )


def _look_up(tracked: TrackedSet, count: int) -> None:
    rng = random.Random(1)
    # Half of them are nobody's.
    asked = [_did(rng.randrange(2 * count)) for _ in range(LOOK_UPS)]
    wants = tracked.wants
    ours_s = report.timed(lambda: [wants.get(did) for did in asked])
    few = asked[: LOOK_UPS // 20]
    sql_s = report.timed(lambda: [author_id(did) for did in few]) * 20
    assert all((did in wants) == (author_id(did) is not None) for did in few)
    print(
        f"look-up        {ours_s / LOOK_UPS * 1e9:.0f} ns; in SQL {sql_s / LOOK_UPS * 1e9:.0f} ns"
    )


def _see_changes(tracked: TrackedSet) -> None:
    idle = [report.timed(tracked.refresh) for _ in range(20)]
    print(f"no change      {report.median(idle) * 1e3:.2f} ms")
    for many in (1, 1_000, 20_000):
        took = report.median([_take_in(tracked, dids) for dids in _strangers(many)])
        print(f"{many:>6} more    {took * 1e3:.1f} ms until they are in the set")


def _strangers(many: int) -> Iterator[list[str]]:
    for turn in range(3):
        yield [f"did:plc:x{many:x}z{turn}z{n:x}" for n in range(many)]


def _take_in(tracked: TrackedSet, dids: list[str]) -> float:
    with write_transaction():
        repos.track(author_ids(dids).values(), repos.ITEMS, time.time_ns() // 1000)
    took = report.timed(tracked.refresh)
    assert all(did in tracked.wants for did in dids)
    return took


def _did(number: int) -> str:
    """Different for each number, and nothing in order."""
    letters, mixed = [], number * 0x9E3779B97F4A7C15 % 2**64
    for _ in range(24):
        letters.append(_LETTERS[mixed & 31])
        mixed = (mixed >> 5) ^ (mixed << 59) % 2**64
    return "did:plc:" + "".join(letters)


if __name__ == "__main__":
    main()
