"""`cursor`: where in each source we are, and forgetting that, which opens a gap.

Clearing is for a source whose numbers are wrong in a way that nobody noticed. The next connection
begins at the present or, where another source was read, at the time that it has come to; and
everybody's history is fetched again: minutes to hours of work.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace

from server.commands.command import DONE, FAILED, Command
from server.commands.schema import open_as_it_is
from server.core.config import Config
from server.core.errors import ConfigError
from server.core.wording import duration, moment
from server.storage import leases, overview
from server.storage.changes import commit_gap
from server.storage.cursors import load_position
from server.storage.overview import Source


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "clear"))
    parser.add_argument(
        "source", nargs="?", metavar="HOST", help="which one to clear, as `show` names it"
    )
    parser.add_argument("--json", action="store_true", help="for scripts")


def _run(config: Config, arguments: Namespace) -> int:
    open_as_it_is(config, read_only=arguments.action == "show")
    now_us = time.time_ns() // 1000
    sources = overview.sources()
    if arguments.action == "clear":
        return _clear(_chosen(sources, arguments.source), now_us, as_json=arguments.json)
    if arguments.json:
        fields = ("host", "seq", "event_ms", "written_us")
        print(json.dumps([{name: getattr(one, name) for name in fields} for one in sources]))
        return DONE
    for one in sources:
        lag = duration(now_us / 1e6 - one.event_ms / 1e3)
        print(
            f"{one.host}: at {one.seq}, of {moment(one.event_ms * 1000)} ({lag} ago),"
            f" saved {moment(one.written_us)}"
        )
    if not sources:
        print("No source has been read yet.")
    return DONE


def _chosen(sources: list[Source], host: str | None) -> Source:
    """The source that is meant. Raises ConfigError when that is not clear."""
    hosts = ", ".join(source.host for source in sources) or "none"
    if host is None and len(sources) == 1:
        return sources[0]
    if host is None:
        raise ConfigError([f"which cursor? There are: {hosts}"])
    found = next((source for source in sources if source.host == host), None)
    if found is None:
        raise ConfigError([f"there is no cursor of {host}. There are: {hosts}"])
    return found


def _clear(source: Source, now_us: int, *, as_json: bool) -> int:
    lease = leases.acquire("cursor clear", now_us)
    if lease is None:
        problem = "An ingest process leads, and has its own idea of the cursor: stop it first."
        print(problem, file=sys.stderr)
        return FAILED
    try:
        commit_gap(
            source.host,
            "cleared by the operator",
            source.event_ms,
            now_us // 1000,
            lease.epoch,
            now_us,
        )
    finally:
        lease.release()
    if as_json:
        print(json.dumps({"cleared": source.host, "seq": source.seq}))
    else:
        print(f"{source.host}: forgotten, and a gap is open since {moment(source.event_ms * 1000)}")
        print(_where_reading_goes_on())
        print("Everybody's history is fetched again when ingest starts: `status` shows how far.")
    return DONE


def _where_reading_goes_on() -> str:
    other = load_position()
    if other is None:
        return "The next connection begins at the present."
    return (
        f"Reading goes on where {other.host} was: {moment(other.event_ms * 1000)}."
        f" `cursor clear {other.host}` forgets that, too."
    )


COMMAND = Command("cursor", "show where in the stream we are, or forget it", _run, _add_arguments)
