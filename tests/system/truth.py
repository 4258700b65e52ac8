"""A viewer's feed as an app reads it, compared with what the network itself says must be there."""

import time
from collections import Counter
from dataclasses import dataclass
from itertools import groupby

from simnet import Account, FeedFailed, Network
from simnet.clock import time_us_of_iso
from simnet.expected import expected_everything
from tests.devnet.service import RKEYS
from tests.system.databases import Database, open_gaps
from tests.system.service import Service

SHOWN = 8


@dataclass
class Reading:
    """A feed read from the top to its end, in pages."""

    keys: list[str]
    skeleton_keys: list[str]
    pages: int


class Reader:
    """Reads and judges the feeds of one service that is published on one network."""

    def __init__(self, net: Network, service: Service, publisher: Account) -> None:
        self.net = net
        self.service = service
        self.publisher = publisher
        net.register_feed_service(service.did, service.url)
        for rkey in RKEYS:
            net.publish_feed(publisher, rkey, service.did)

    def uri(self, rkey: str = "everything") -> str:
        return f"at://{self.publisher.did}/app.bsky.feed.generator/{rkey}"

    def read(self, viewer: Account, limit: int = 100, rkey: str = "everything") -> Reading:
        """The whole feed; raises FeedFailed."""
        reading, cursor = Reading([], [], 0), None
        while True:
            page = self.net.get_feed(viewer, self.uri(rkey), limit, cursor)
            skeleton = page.skeleton["feed"]
            assert len(skeleton) <= limit
            assert skeleton or cursor is None, "an empty page after a cursor"
            reading.pages += 1
            reading.keys += [item.repost_uri or item.uri for item in page.items]
            reading.skeleton_keys += [
                item["reason"]["repost"] if "reason" in item else item["post"] for item in skeleton
            ]
            cursor = page.cursor
            if cursor is None:
                return reading

    def open(self, viewer: Account) -> None:
        """As an app does when somebody comes for the first time; there may be nothing yet."""
        try:
            self.read(viewer)
        except FeedFailed as failed:
            if failed.error != "FeedNotReady":
                raise

    def problem(self, viewer: Account, limit: int = 100) -> str | None:
        """What differs from the truth now; None if nothing does."""
        try:
            reading = self.read(viewer, limit)
        except FeedFailed as failed:
            return f"{viewer.handle}: {failed}"
        with self.net.world.lock:
            shown = expected_everything(self.net.world, viewer.did)
            said = expected_skeleton(self.net, viewer)
            times = sort_times_ms(self.net)
        doubled = [key for key, count in Counter(reading.skeleton_keys).items() if count > 1]
        if doubled:
            return f"{viewer.handle}: doubled: {doubled[:SHOWN]}"
        # What we say counts as much as what is left of it when the AppView has hydrated it: a
        # post that we should have dropped is dropped there too, and nobody would see that we
        # did not.
        for got, wanted in ((reading.skeleton_keys, said), (reading.keys, shown)):
            if in_comparable_order(got, times) != in_comparable_order(wanted, times):
                return f"{viewer.handle}: {self._difference(got, wanted, times)}"
        return None

    def settle(
        self, *viewers: Account, seconds: float = 20.0, database: Database | None = None
    ) -> int:
        """Wait until every feed is true (and no gap is open); the number of items compared."""
        deadline = time.monotonic() + seconds
        while problems := self._problems(viewers, database):
            if time.monotonic() > deadline:
                raise AssertionError("\n".join([*problems, self.service.log_text()]))
            time.sleep(0.1)
        return sum(len(expected_everything(self.net.world, one.did)) for one in viewers)

    def _problems(self, viewers: tuple[Account, ...], database: Database | None) -> list[str]:
        problems = [problem for one in viewers if (problem := self.problem(one)) is not None]
        if database is not None and (gaps := open_gaps(database)):
            problems.append(f"open gaps and jobs: {gaps[:SHOWN]}")
        return problems

    def _difference(self, got: list[str], wanted: list[str], times: dict[str, int]) -> str:
        missing = [key for key in wanted if key not in set(got)]
        surplus = [key for key in got if key not in set(wanted)]
        lines = [f"{len(got)} items, {len(wanted)} wanted"]
        for title, keys in (("missing", missing), ("too many", surplus)):
            lines += [f"{title}: {len(keys)}"] if keys else []
            lines += [f"  {self._described(key, times)}" for key in keys[:SHOWN]]
        if not missing and not surplus:
            at = next(n for n, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b)
            lines.append(f"another order from {at} on:")
            lines += [f"  got    {self._described(key, times)}" for key in got[at : at + 3]]
            lines += [f"  wanted {self._described(key, times)}" for key in wanted[at : at + 3]]
        return "\n".join(lines)

    def _described(self, key: str, times: dict[str, int]) -> str:
        state = self.net.world.accounts.get(key.split("/")[2])
        who = f"{state.handle} ({state.status})" if state else "?"
        return f"{key} of {who} at {times.get(key, 'no time: the record is gone')}"


def expected_skeleton(net: Network, viewer: Account) -> list[str]:
    """What a generator must name: the same, but whether a reposted post can still be shown is the
    AppView's business.
    """
    authors = {viewer.did} | viewer.follows()
    items = [
        item
        for item in net.records("app.bsky.feed.post", "app.bsky.feed.repost")
        if item.did in authors and net.world.accounts[item.did].status == "active"
    ]
    times = sort_times_ms(net)
    return [item.uri for item in sorted(items, key=lambda item: times[item.uri], reverse=True)]


def sort_times_ms(net: Network) -> dict[str, int]:
    """Where the official order puts every record that exists, in its own unit."""
    times = {}
    for record in net.records("app.bsky.feed.post", "app.bsky.feed.repost"):
        created_us = time_us_of_iso(record.record["createdAt"])
        times[record.uri] = min(created_us or record.first_us, record.first_us) // 1000
    return times


def in_comparable_order(keys: list[str], times: dict[str, int]) -> list[str]:
    """The same order, but for items of one millisecond: those stand in an order of their own."""
    runs = groupby(keys, lambda key: times.get(key))
    return [key for _, run in runs for key in sorted(run)]
