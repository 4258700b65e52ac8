"""What `doctor` looks at on this machine: settings, database, disk, backups, the leader, gaps."""

import time
from collections.abc import Iterator
from pathlib import Path

from server.commands.findings import FAIL, OK, WARN, Check, Finding, at_worst
from server.commands.schema import open_as_it_is
from server.core.config import Config
from server.core.errors import BackupFailed, ConfigError
from server.core.wording import duration, moment, size
from server.storage import backup, leases, overview, readings
from server.storage.database import DatabaseError, is_sqlite
from server.storage.readings import Readings
from server.storage.replica_connection import (
    BUSY,
    CANCELLED,
    FAILING,
    FOREIGN,
    LAGGING,
    PRIMARY,
    SILENT,
    UNREACHABLE,
)
from server.storage.replicas import Replicas

# What tokens forgive is a minute; a stream a minute behind is what the alert is for.
LAG_SECONDS = (60, 600)
GAP_SECONDS = 3600

# What to do about a replica. Those that DATABASE_REPLICA_URLS should not name come first.
ADVICE = {
    PRIMARY: "take it out of DATABASE_REPLICA_URLS, or make it a replica of DATABASE_URL",
    FOREIGN: "take it out of DATABASE_REPLICA_URLS; after a failover of the primary, wait for the"
    " replica's next restart point (checkpoint_timeout)",
    UNREACHABLE: "does it run, and take connections (hot_standby, pg_hba.conf, the password)?",
    SILENT: "does it run, and does the network lead to it?",
    LAGGING: "if it stays so: pg_stat_replication on the primary, and the replica's log",
    CANCELLED: "it is overloaded, or replaying conflicts with reading: its log says which",
    FAILING: "its log says why; the user needs SELECT on all tables, and pg_control_system()",
    BUSY: "ask again",
}
MISTAKEN = (PRIMARY, FOREIGN)


def checks(config: Config) -> list[Check]:
    """In the order in which they are worth reading."""
    return [lambda: settings(config), lambda: storage(config), lambda: backups(config)]


def cursors(config: Config) -> dict[str, int]:
    """Where in each source we are; nothing where the database cannot say."""
    try:
        open_as_it_is(config)
        return {source.host: source.seq for source in overview.sources()}
    except (ConfigError, DatabaseError):
        return {}


def settings(config: Config) -> Iterator[Finding]:
    """What the settings mean together."""
    if config.is_local_trial:
        yield Finding(
            "settings",
            WARN,
            "a local trial: nobody outside this machine can reach it",
            "set FEED_HOSTNAME and FEED_PUBLISHER_DID to go public",
        )
    if config.allow_private_hosts:
        yield Finding(
            "settings",
            WARN if config.is_local_trial else FAIL,
            "ALLOW_PRIVATE_HOSTS is on: strangers can make us connect to internal hosts",
            "unset it, except in a test network",
        )
    if not config.is_local_trial and not config.allow_private_hosts:
        yield Finding("settings", OK, f"public, as {config.service_did}")


def storage(config: Config) -> Iterator[Finding]:
    """The database, and what it says of the stream."""
    try:
        open_as_it_is(config)
        now = readings.read(time.time_ns() // 1000)
    except ConfigError as error:
        yield Finding("database", FAIL, str(error), "start the service once: it makes its tables")
        return
    except DatabaseError as error:
        seen = str(error).strip().splitlines()[0]
        yield Finding("database", FAIL, seen, "check DATABASE_URL, and that its server runs")
        return
    kind = "SQLite" if is_sqlite() else "PostgreSQL"
    tables = f"{kind}, {size(now.database_bytes)}, its tables are of this version"
    yield Finding("database", OK, tables)
    if now.disk is not None:
        total, free = now.disk
        yield at_worst(
            "disk",
            1 - free / total,
            0.85,
            0.95,
            f"{size(free)} of {size(total)} are free where the database is",
            "make it larger, or lower RETENTION_DAYS: a full disk stops the service",
        )
    yield from replicas(config)
    yield from stream(now, time.time_ns() // 1000)


def replicas(config: Config) -> Iterator[Finding]:
    """Whether pages can be read from each replica. Without one the primary gives them."""
    for one in Replicas(config.replica_urls, max_connections=1).look():
        name = f"replica {one.name}"
        if one.problem is None:
            yield Finding(name, OK, f"pages can be read from it, {size(one.lag_bytes or 0)} behind")
        else:
            verdict = FAIL if one.problem in MISTAKEN else WARN
            yield Finding(name, verdict, f"{one.problem}: {one.detail}", ADVICE[one.problem])


def stream(now: Readings, now_us: int) -> Iterator[Finding]:
    """Who reads, and how far behind."""
    leader = now.leader
    if leader is None or leases.is_silent(leader, now_us):
        last = "never" if leader is None else moment(leader.alive_us)
        seen = f"no ingest process leads; the last sign of one: {last}"
        yield Finding("leader", FAIL, seen, "start `python -m server run`, or `ingest`")
    elif leader.connected_us is None:
        seen = f"{leader.holder} leads, and is not connected to a source"
        yield Finding("leader", FAIL, seen, "look at its log, and at `source` below")
    else:
        since = moment(leader.connected_us)
        yield Finding("leader", OK, f"{leader.holder} leads, connected since {since}")
    if now.event_ms is not None:
        lag_s = max(0.0, now_us / 1e6 - now.event_ms / 1e3)
        yield at_worst(
            "cursor",
            lag_s,
            *LAG_SECONDS,
            f"the newest event saved is {duration(lag_s)} old",
            "wait if it is catching up (`status` twice); else see GaplessStreamLag in the guide",
        )
    oldest_us = min((opened_us for _, opened_us in now.gaps.values()), default=now_us)
    count = sum(count for count, _ in now.gaps.values())
    age_s = (now_us - oldest_us) / 1e6
    yield at_worst(
        "gaps",
        age_s,
        GAP_SECONDS,
        float("inf"),
        f"{count} open, the oldest for {duration(age_s)}" if count else "none open",
        "`status` names them; they heal when the authors' hosts answer",
    )


def backups(config: Config) -> Iterator[Finding]:
    """Whether there are backups, and how old the newest is."""
    if not config.database_url.startswith("sqlite:"):
        return
    if config.backup_dir is None:
        advice = "set BACKUP_DIR, best to another disk"
        yield Finding("backups", WARN, "the service makes none by itself", advice)
        return
    now_us = time.time_ns() // 1000
    try:
        newest = backup.newest_s(Path(config.backup_dir), now_us)
    except BackupFailed as error:
        yield Finding("backups", FAIL, str(error), "let the service's user read that folder")
        return
    age_s = now_us / 1_000_000 - newest
    yield at_worst(
        "backups",
        age_s,
        config.backup_hours * 3600 * 1.5,
        config.backup_hours * 3600 * 4,
        f"the newest is {duration(age_s)} old" if newest else f"none in {config.backup_dir} yet",
        "the log says why (`backup failed`); try `python -m server backup`",
    )
