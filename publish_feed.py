"""Publishes the feeds of `feeds/`: writes, compares, lists and removes their generator records.

Leaves the service alone: it only tells the network where the service is and what its feeds are
called. Settings come from the environment and from `.env`; see `.env.example`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dotenv import dotenv_values

from feeds import FEEDS
from publishing import preflight
from publishing.account import Account, RecordChanged, StoredRecord, log_in
from publishing.record import Avatar, Record, differences, wanted_record
from server.core.config import Config
from server.core.errors import ConfigError, FeedError
from server.core.feed import Feed
from server.core.syntax import is_rkey

ROOT = Path(__file__).parent
AVATARS = ROOT / "feeds" / "avatars"

WRITES_OR_COMPARES = ("publish", "check", "diff")

OK, FAILED, INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen at one feed's URI: nothing, if there are no differences."""

    feed: Feed
    avatar: Avatar | None
    stored: StoredRecord | None
    wanted: Record
    differences: list[str]


class Publisher:
    """One run of the command, after the login. Each method prints what it finds and does."""

    def __init__(
        self, account: Account, config: Config, avatars: Mapping[str, Avatar], dry_run: bool
    ) -> None:
        self.account = account
        self.config = config
        self.avatars = avatars
        self.dry_run = dry_run

    def publish(self, feeds: Sequence[Feed]) -> int:
        """Makes the records say what they should."""
        for feed in feeds:
            plan = self._plan(feed)
            self._print_plan(plan)
            if plan.differences and not self.dry_run:
                try:
                    self._write(plan)
                except RecordChanged:
                    print(f"{feed.rkey}: somebody else wrote the record just now; reading it again")
                    plan = self._plan(feed)
                    self._print_plan(plan)
                    self._write(plan)
            print(f"  {feed.uri(self.account.did)}")
            print(f"  https://bsky.app/profile/{self.account.did}/feed/{feed.rkey}")
        return OK

    def check(self, feeds: Sequence[Feed]) -> int:
        """Says what `publish` would change; fails if that is anything."""
        plans = [self._plan(feed) for feed in feeds]
        for plan in plans:
            self._print_plan(plan)
        return FAILED if any(plan.differences for plan in plans) else OK

    def show_all(self, feeds: Sequence[Feed]) -> int:
        """Shows every generator record of the account, also those of other services."""
        ours = {feed.rkey for feed in feeds}
        records = self.account.records()
        for stored in records:
            where = stored.value.get("did")
            note = "" if where == self.config.service_did else ", another service"
            note += "" if stored.rkey in ours else ", not in feeds/"
            print(f"{stored.rkey}: {stored.value.get('displayName')!r} at {where}{note}")
        print(f"{len(records)} feed records of {self.account.handle} ({self.account.did})")
        return OK

    def remove(self, rkeys: Sequence[str]) -> int:
        """Deletes the records. A feed published again at the same URI starts without its likes."""
        for rkey in rkeys:
            stored = self.account.get(rkey)
            if stored is None:
                print(f"{rkey}: not there")
            elif self.dry_run:
                print(f"{rkey}: would be removed")
            else:
                self.account.delete(stored)
                print(f"{rkey}: removed")
        return OK

    def _plan(self, feed: Feed) -> Plan:
        stored = self.account.get(feed.rkey)
        current = stored.value if stored else None
        avatar = self.avatars.get(feed.rkey)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wanted = wanted_record(current, feed, self.config.service_did, avatar, now)
        return Plan(feed, avatar, stored, wanted, differences(current, wanted))

    def _print_plan(self, plan: Plan) -> None:
        if not plan.differences:
            print(f"{plan.feed.rkey}: unchanged")
            return
        print(f"{plan.feed.rkey}: {'to update' if plan.stored else 'to create'}")
        for line in plan.differences:
            print(f"    {line}")

    def _write(self, plan: Plan) -> None:
        if not plan.differences:
            return
        record = plan.wanted
        if plan.avatar is not None and record.get("avatar") == plan.avatar.blob:
            record = record | {"avatar": self.account.upload(plan.avatar)}
        self.account.put(plan.feed.rkey, record, replaces=plan.stored)
        print(f"{plan.feed.rkey}: {'updated' if plan.stored else 'created'}")


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    feeds: Sequence[Feed] = FEEDS,
    avatar_folder: Path = AVATARS,
) -> int:
    """Runs one command and returns its exit code; a wrong command line exits with 2 itself."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    rkeys = _chosen_rkeys(parser, arguments, feeds)
    chosen = [feed for feed in feeds if feed.rkey in rkeys]
    try:
        config = preflight.read_config(environ)
        login = preflight.read_login(environ)
        avatars: dict[str, Avatar] = {}
        if arguments.command in WRITES_OR_COMPARES:
            avatars = preflight.read_avatars(chosen, avatar_folder)
            preflight.refuse_unpublishable(config, login, chosen, avatars)
        account = log_in(login.pds_url, login.handle, preflight.password_of(login))
        preflight.refuse_other_account(account, config)
        publisher = Publisher(account, config, avatars, arguments.dry_run)
        match arguments.command:
            case "publish":
                return publisher.publish(chosen)
            case "check" | "diff":
                return publisher.check(chosen)
            case "list":
                return publisher.show_all(feeds)
            case _:
                return publisher.remove(rkeys)
    except FeedError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        for problem in problems:
            print(f"publish_feed: {problem}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="publish_feed.py", description=__doc__)
    parser.set_defaults(rkeys=[], all=False, dry_run=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, aliases: Sequence[str] = ()) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, aliases=aliases)

    publish = add("publish", "Create or update the records of all feeds, or of those named.")
    check = add("check", "Show what publish would change; exit 1 if anything.", aliases=["diff"])
    add("list", "List the feed records that the account has, whoever serves them.")
    text = "Delete the records of the feeds named, or of all in feeds/."
    remove = add("remove", text, aliases=["unpublish"])
    for command in (publish, check, remove):
        command.add_argument("rkeys", nargs="*", metavar="RKEY", help="last part of a feed's URI")
    for command in (publish, remove):
        command.add_argument("--dry-run", action="store_true", help="say it, but write nothing")
    remove.add_argument("--all", action="store_true", help="every feed in feeds/")
    return parser


def _chosen_rkeys(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, feeds: Sequence[Feed]
) -> list[str]:
    known = [feed.rkey for feed in feeds]
    rkeys: list[str] = list(dict.fromkeys(arguments.rkeys))
    if arguments.command in ("remove", "unpublish"):
        if arguments.all == bool(rkeys):
            parser.error("remove: name the feeds, or say --all")
        # A feed that is no longer in feeds/ can still be removed.
        unknown = [rkey for rkey in rkeys if not is_rkey(rkey)]
    else:
        unknown = [rkey for rkey in rkeys if rkey not in known]
    if unknown:
        parser.error(f"no such feed: {', '.join(unknown)} (feeds/ has {', '.join(known)})")
    return rkeys or known


def read_environ(dotenv: Path = ROOT / ".env") -> dict[str, str]:
    """The environment, with what only `.env` has. Variables that are set win."""
    found = dotenv_values(dotenv, interpolate=False)
    from_file = {name: text or "" for name, text in found.items()}
    return from_file | dict(os.environ)


def run(argv: Sequence[str], dotenv: Path = ROOT / ".env") -> int:
    """The same as `main`, with the settings that are there."""
    try:
        environ = read_environ(dotenv)
    except (OSError, UnicodeDecodeError) as error:
        print(f"publish_feed: .env cannot be read: {error}", file=sys.stderr)
        return FAILED
    return main(argv, environ)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
