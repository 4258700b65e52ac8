"""Compares what our feeds show with what the official timeline shows, item by item.

The wanted differences are handled here and nowhere else:
- The official timeline drops own items past ten a page: read in pages that the cap cannot bite.
- It shows own items twice to somebody who follows himself: the second is dropped.
- It loses the reposts of an edited post: ours must show them, in their place.
- Items of one millisecond may stand in any order among themselves.
- A post dated in the future that was fetched, not heard, stands at the time of its record key, a
  moment before the official time of first sight: only where a test says that this can be.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

from server.core.syntax import tid_to_int, tid_us
from tests.devnet.client import Network, XrpcFailed
from tests.devnet.feed_rules import Rule, rules
from tests.devnet.reading import Seen, open_feed, whole_feed, whole_timeline
from tests.devnet.service import Service
from tests.devnet.world import Person, World

# How long our service may lag behind before a difference counts.
LAG_SECONDS = 30.0
SHOWN = 12
FOR_ALL = ("everything", "following", "posts-only")

ItemKey = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the feeds of one service about one world that nobody is writing in."""

    network: Network
    world: World
    service: Service
    limit: int = 100
    # Whether posts dated in the future may have been missed live, and fetched.
    fetches_future: bool = False

    def compare_all(self) -> int:
        """How many items agreed. Raises AssertionError at the first feed that stays different."""
        self.network.settle()
        self.world.note_settled()
        return sum(self._compare(person) for person in self._viewers())

    def _viewers(self) -> list[Person]:
        return [person for person in self.world.people if person.active and not person.is_stranger]

    def _compare(self, viewer: Person) -> int:
        self._open_all(viewer)
        timeline, is_careful = self._official(viewer), False
        deadline = time.monotonic() + LAG_SECONDS
        while True:
            problem = self._first_problem(viewer, timeline)
            if problem is None:
                return len(timeline)
            if not is_careful:
                timeline, is_careful = self._official(viewer, careful=True), True
            elif time.monotonic() > deadline:
                raise AssertionError(f"{problem}\n{self.service.log_text()}")
            else:
                time.sleep(0.2)

    def _open_all(self, viewer: Person) -> None:
        """As somebody who uses them would: what a feed needs to know is looked up from now on."""
        for rkey in self._rules(viewer):
            open_feed(viewer.account, self.service, rkey)

    def _rules(self, viewer: Person) -> dict[str, Rule]:
        """Of those that leave something out each viewer reads every other one: time is dear."""
        place = self.world.people.index(viewer)
        return {
            rkey: rule
            for number, (rkey, rule) in enumerate(rules(self.world, viewer).items())
            if rkey in FOR_ALL or (number + place) % 2 == 0
        }

    def _official(self, viewer: Person, *, careful: bool = False) -> list[Seen]:
        timeline = whole_timeline(viewer.account, careful=careful)
        if viewer.did not in self.world.followed(viewer):
            return timeline
        return list({item.key: item for item in timeline}.values())

    def _first_problem(self, viewer: Person, timeline: list[Seen]) -> str | None:
        for rkey, rule in self._rules(viewer).items():
            wanted = [item for item in timeline if rule.keeps(item)]
            try:
                got = whole_feed(viewer.account, self.service, rkey, self.limit)
            except XrpcFailed as failed:
                return f"{rkey} of {viewer.account.handle}: {failed}"
            visible = self.world.lost_but_visible(viewer)
            lost = {repost.ref.uri for repost in visible if rule.keeps_lost(repost)}
            adrift = self.world.future_posts() if self.fetches_future else set()
            found = difference(got, wanted, self.world.lost_reposts(), lost, adrift)
            if found is not None:
                whose = f"{viewer.account.handle} {viewer.did}"
                return f"{rkey} of {whose}, which follows {self._follows(viewer)}\n{found}"
        return None

    def _follows(self, viewer: Person) -> str:
        followed = self.world.followed(viewer)
        people = (person for person in self.world.people if person.did in followed)
        return ", ".join(person.account.name for person in people) or "nobody"


def difference(
    got: list[Seen],
    wanted: list[Seen],
    lost: set[str],
    lost_but_visible: set[str],
    adrift: Collection[str] = (),
) -> str | None:
    """What is wrong with `got`, for a person to read; None if nothing is.

    `lost` are reposts that the official timeline may lack, `lost_but_visible` those of them that we
    must show. `adrift` are posts that may stand as low as the time of their record key.
    """
    doubles = [item for item, count in Counter(item.key for item in got).items() if count > 1]
    if doubles:
        return f"shown more than once: {doubles}"
    is_adrift = {item.key: item.repost is None and item.post in adrift for item in got}
    fixed = [item for item in got if not is_adrift[item.key]]
    disorder = [(above, item) for above, item in pairwise(fixed) if _rises(above, item)]
    disorder += [pair for pair in pairwise(got) if _is_out_of_range(*pair, is_adrift)]
    if disorder:
        return "not newest first:\n" + "\n".join(
            f" {above}\n {item}" for above, item in disorder[:3]
        )
    kept = {item.repost for item in got if item.repost in lost}
    if kept != lost_but_visible:
        absent, alien = lost_but_visible - kept, kept - lost_but_visible
        return f"reposts of edited posts: missing {absent}, unwanted {alien}"
    ours = _comparable(got, lost, is_adrift)
    theirs = _comparable(wanted, lost, is_adrift)
    return None if ours == theirs else _report(ours, theirs)


def _rises(above: Seen, item: Seen) -> bool:
    return item.sort_time > above.sort_time


def _is_out_of_range(above: Seen, item: Seen, is_adrift: dict[ItemKey, bool]) -> bool:
    """Whether two neighbours, one or both of them adrift, stand where no time of theirs can be."""
    if not (is_adrift[above.key] or is_adrift[item.key]):
        return False
    lowest = key_time(item.post) if is_adrift[item.key] else item.sort_time
    return lowest > above.sort_time


def key_time(uri: str) -> str:
    """The time in a post's record key, as the AppView writes times."""
    made = datetime.fromtimestamp(tid_us(tid_to_int(uri.rsplit("/", 1)[1])) / 1e6, UTC)
    return made.strftime("%Y-%m-%dT%H:%M:%S.") + f"{made.microsecond // 1000:03}Z"


def _comparable(
    items: Iterable[Seen], lost: set[str], is_adrift: dict[ItemKey, bool]
) -> list[Seen]:
    """What both must show, ties in an order of their own; first what may stand elsewhere."""
    chosen = [item for item in items if item.repost not in lost]
    runs = groupby(
        (item for item in chosen if not is_adrift.get(item.key)), lambda item: item.sort_time
    )
    fixed = [item for _, run in runs for item in sorted(run, key=lambda item: str(item.key))]
    elsewhere = (item for item in chosen if is_adrift.get(item.key))
    return sorted(elsewhere, key=lambda item: str(item.key)) + fixed


def _report(ours: list[Seen], theirs: list[Seen]) -> str:
    ours_keys, theirs_keys = {item.key for item in ours}, {item.key for item in theirs}
    missing = [item for item in theirs if item.key not in ours_keys]
    extra = [item for item in ours if item.key not in theirs_keys]
    lines = [f"ours {len(ours)} items, official {len(theirs)}"]
    lines += _listed("missing from ours", missing, theirs)
    lines += _listed("only in ours", extra, ours)
    if not missing and not extra:
        at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        lines.append(f"same items, another order or sort time from position {at} on:")
        lines += [f"  ours     {item}" for item in ours[at : at + 3]]
        lines += [f"  official {item}" for item in theirs[at : at + 3]]
    return "\n".join(lines)


def _listed(title: str, items: list[Seen], among: list[Seen]) -> list[str]:
    if not items:
        return []
    lines = [f"{title}: {len(items)}, the first {SHOWN}"]
    lines += [f"  [{among.index(item)}] {item}{_context(item)}" for item in items[:SHOWN]]
    return lines


def _context(item: Seen) -> str:
    """Why an item may be there or not: what it replies to, and whom of those the viewer follows."""
    reply = item.view.get("reply")
    if reply is None:
        return ""
    parts = []
    for name in ("parent", "root"):
        view = reply[name]
        kind = view["$type"].split("#")[1]
        author = view.get("author", {})
        follows = " followed" if author.get("viewer", {}).get("following") else ""
        parts.append(f"{name} {kind} {author.get('handle', '')}{follows}")
    above = reply["parent"].get("record", {}).get("reply", {}).get("parent", {}).get("uri")
    if above is not None:
        grandparent = reply.get("grandparentAuthor", {"handle": "whose author is not there"})
        follows = " followed" if grandparent.get("viewer", {}).get("following") else ""
        parts.append(f"grandparent {above} {grandparent['handle']}{follows}")
    return f"\n      {'; '.join(parts)}"
