"""`explain`: why a post or a repost is, or is not, in somebody's feed. Reads, and changes nothing.

Everything comes from our own tables; the network is asked only whose a handle is.
docs/commands.md gives the shape of the JSON.
"""

import dataclasses
import json
import time
from argparse import ArgumentParser, Namespace

from feeds import FEEDS
from server.commands.accounts import find_did
from server.commands.command import DONE, Command
from server.commands.schema import open_as_it_is
from server.commands.status import shortfall
from server.commands.verdict import InFeed, Record, Verdict, judge
from server.core.config import Config
from server.core.errors import ConfigError
from server.core.feed import Feed
from server.core.syntax import POST, REPOST, is_rkey
from server.core.wording import moment
from server.storage.ledger import Window

_WHY = {
    "no viewer": "This account has never opened one of our feeds (or was forgotten since).",
    "follows unknown": "Whom the viewer follows is not fetched yet.",
    "follows cut": "The viewer follows more accounts than we keep, and the author is not kept.",
    "not followed": "The viewer does not follow the author.",
    "inactive": "The author's account is not active: nothing of theirs is shown.",
    "deleted": "It was deleted.",
    "not fetched": "The author's repo is not complete yet: it may still come.",
    "beyond horizon": "It is older than what is fetched, or kept, of this author.",
    "not heard yet": "It is newer than the last event that is saved of the stream.",
    "unknown record": (
        "We have the author's repo down to this key and beyond, and no such record: it never"
        " existed, was deleted long ago, or is not valid (then the AppView has it neither)."
    ),
    "filtered": "It is there, and the rule of each feed asked about leaves it out.",
    "shown": "It is in the feed.",
}


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("viewer", metavar="VIEWER", help="whose feed: a DID or a handle")
    parser.add_argument("uri", metavar="URI", help="of a post or a repost; a handle in it will do")
    parser.add_argument("feed", metavar="FEED", nargs="?", help="one feed's name; default: each")
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def _run(config: Config, arguments: Namespace) -> int:
    open_as_it_is(config)
    feeds = _find_feeds(arguments.feed)
    record = _find_record(config, arguments.uri)
    viewer = find_did(config, arguments.viewer)
    now_us = time.time_ns() // 1000
    window = Window.at(now_us, config.backfill_days, config.retention_days)
    verdict = judge(viewer, record, feeds, window, now_us)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(verdict), indent=2))
    else:
        print("\n".join(told(verdict)))
    return DONE


def _find_feeds(name: str | None) -> tuple[Feed, ...]:
    found = tuple(feed for feed in FEEDS if name in (None, feed.rkey))
    if not found:
        raise ConfigError([f"no feed is called {name}: {', '.join(feed.rkey for feed in FEEDS)}"])
    return found


def _find_record(config: Config, uri: str) -> Record:
    parts = uri.removeprefix("at://").split("/")
    is_record = uri.startswith("at://") and len(parts) == 3 and is_rkey(parts[2])
    if not is_record or parts[1] not in (POST, REPOST):
        raise ConfigError([f"{uri!r} is not the at:// URI of a post or a repost"])
    return Record(find_did(config, parts[0]), parts[1], parts[2])


def told(verdict: Verdict) -> list[str]:
    """The verdict for people, as lines."""
    lines = [verdict.uri, f"for {verdict.viewer}", "", _WHY[verdict.reason]]
    lines += [f"  {_in_feed(feed)}" for feed in verdict.feeds]
    lines += ["", *_about_author(verdict), *_about_record(verdict), *_about_reply(verdict)]
    lines += [f"reposted by somebody in the feed: {uri}" for uri in verdict.reposted_by]
    return lines


def _in_feed(feed: InFeed) -> str:
    if feed.is_shown and feed.position is None:
        return (
            f"{feed.feed}: shown, further down than we count, or where the viewer stopped reading"
        )
    if feed.is_shown:
        return f"{feed.feed}: shown, item {feed.position}, on page {feed.page} of 30 each"
    rules = " and ".join(feed.filtered_by) or "a rule that takes more than one of its settings"
    return f"{feed.feed}: left out by {rules}"


def _about_author(verdict: Verdict) -> list[str]:
    lines = []
    if verdict.is_own:
        lines.append("author: the viewer")
    for since_us in verdict.followed_since_us:
        when = "at a time that its key does not tell" if since_us is None else moment(since_us)
        lines.append(f"followed: {when} (as the follow record's key says)")
    if verdict.author is not None and verdict.author.live_us is not None:
        lines.append(f"author complete, and listened to, since {moment(verdict.author.live_us)}")
    if verdict.shortfall is not None:
        lines.append(f"author not complete: {shortfall(verdict.shortfall)}")
    return lines


def _about_record(verdict: Verdict) -> list[str]:
    lines = []
    if verdict.deleted_us is not None:
        lines.append(f"deleted: heard of on the stream, written down {moment(verdict.deleted_us)}")
    if verdict.key_us is not None:
        lines.append(f"made: {moment(verdict.key_us)} (as its key says)")
    if verdict.sort_us is not None:
        lines.append(f"stands at: {moment(verdict.sort_us)}, its own date or first sight")
        origin = "heard on the stream" if verdict.origin == "stream" else None
        lines.append(f"came by: {origin or 'the stream or a fetch: that is not recorded'}")
    elif verdict.stream_until_us is None:
        lines.append("nothing of the stream is saved yet")
    else:
        lines.append(f"the stream is saved until {moment(verdict.stream_until_us)}")
    return lines


def _about_reply(verdict: Verdict) -> list[str]:
    lines = []
    for relative in verdict.relatives:
        followed = "followed" if relative.is_followed else "not followed"
        there = {True: "there", False: "gone", None: "not known to be there or gone"}
        known = "" if relative.role == "grandparent" else f", {there[relative.is_there]}"
        lines.append(f"{relative.role}: by {relative.did}, {followed}{known}")
    return lines


COMMAND = Command(
    "explain", "why a post or a repost is, or is not, in somebody's feed", _run, _add_arguments
)
