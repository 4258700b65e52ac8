"""A primary that dies, and its replica in its place, without the last that had been committed."""

from contextlib import closing

import psycopg2
import pytest

from simnet import Network, PatientClock
from tests.standby import Streaming
from tests.system.databases import PostgresDatabase
from tests.system.waiting import wait_until
from tests.web.conftest import make_site


class BothServers(PostgresDatabase):
    """Whichever of the two may be written to."""

    def __init__(self, servers: Streaming) -> None:
        super().__init__(servers.primary)  # type: ignore[arg-type]  never told to go away
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in (servers.primary, servers.replica))
        self.url = f"postgresql://postgres@{hosts}/{self.name}?target_session_attrs=read-write"


@pytest.mark.slow
def test_numbers_that_a_failover_lost_are_not_remembered(tmp_path):
    """The new primary gives them to other accounts: pages would name the wrong people."""
    servers = Streaming()
    try:
        servers.start()
        database = BothServers(servers)
        with Network(seed=29, pds=2, clock=PatientClock()) as net:
            site = make_site(net, database, tmp_path, WEB_WORKERS="2")
            try:
                site.service.start()
                site.reader.settle(site.viewer, database=database)
                before = {member.pid for member in site.service.members("gunicorn")}
                _lose_what_comes(servers, database)
                lost = _follow_many(site)
                for _ in range(10):
                    assert site.reader.problem(site.viewer) is None
                servers.primary.kill()
                servers.replica.ask("SELECT pg_promote()")
                _name(database, reversed(lost))
                site.reader.settle(site.viewer, seconds=60, database=database)
                for _ in range(10):
                    assert site.reader.problem(site.viewer) is None
                assert "another history" in site.service.log_path.read_text()
                wait_until(
                    lambda: len(before & {m.pid for m in site.service.members("gunicorn")}) == 1,
                    30,
                    site.service.log_text,
                )
                assert site.service.stop() == 0
            finally:
                site.service.end()
    finally:
        servers.stop()


def _lose_what_comes(servers, database):
    """The replica has all of this, and nothing of what is committed from now on."""
    known = "SELECT count(*) FROM authors"
    wanted = database.rows(known)[0][0]
    wait_until(
        lambda: servers.replica.ask(known, database.name) == wanted, 20, "the replica follows"
    )
    servers.replica.ask("ALTER SYSTEM SET primary_conninfo = ''")
    servers.replica.ask("SELECT pg_reload_conf()")
    wait_until(
        lambda: servers.replica.ask("SELECT count(*) FROM pg_stat_wal_receiver") == 0,
        20,
        "the replica is cut off",
    )


def _follow_many(site):
    """Authors whom nobody knew; their DIDs in the order of their numbers.

    More than the 32 numbers of a sequence that PostgreSQL's log is ahead of what was given out.
    """
    dids = []
    for number in range(50):
        author = site.net.create_account(f"lost{number}")
        author.post(f"of {number}")
        site.viewer.follow(author)
        dids.append(author.did)
    site.reader.settle(site.viewer)
    found = [did for (did,) in site.database.rows("SELECT did FROM authors ORDER BY id")]
    assert set(dids) <= set(found)
    return [did for did in found if did in dids]


def _name(database, dids):
    """Have the new primary give out numbers, in this order, before anybody else does."""
    with closing(psycopg2.connect(database.url)) as connection, connection:
        cursor = connection.cursor()
        for did in dids:
            cursor.execute(
                "INSERT INTO authors (did) VALUES (%s) ON CONFLICT (did) DO NOTHING", (did,)
            )
