"""The way to copy PostgreSQL that docs/operating.md shows, run as it stands, and what it brings."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from server.storage import touched
from server.storage.database import close_database, execute, rows, value, write_transaction
from server.storage.migrate import check_schema
from server.storage.opening import open_database
from server.storage.touched import Listener, touch
from tests.builders import Stream, make_live, post, tid, track
from tests.devnet.postgres import _programs

GUIDE = Path(__file__).parents[2] / "docs" / "operating.md"


def shown(word):
    """The command of the guide that begins with this word."""
    (line,) = re.findall(rf"^{word} .*$", GUIDE.read_text(), re.M)
    return line


def run(line, folder, **environ):
    path = f"{_programs() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", line], cwd=folder, env={"PATH": path, **environ}, check=True)


def test_a_dump_is_put_back_whole(postgresql, lease, postgres, tmp_path):
    assert lease.is_held()
    track("alice")
    make_live("alice")
    Stream().say("alice", post(tid(1)), post(tid(2)))
    before = rows("SELECT * FROM feed_items ORDER BY id")
    run(shown("pg_dump"), tmp_path, DATABASE_URL=postgresql)
    copy = postgres.create(f"{postgres.shared}_copy")
    try:
        run(shown("pg_restore"), tmp_path, NEW_DATABASE_URL=copy)
        close_database()
        open_database(copy)
        check_schema()
        assert rows("SELECT * FROM feed_items ORDER BY id") == before
        # Numbers go on where they were: a new author must not get an old one's.
        track("bob")
        assert rows("SELECT count(*) FROM authors") == [(2,)]
    finally:
        close_database()
        postgres.drop(f"{postgres.shared}_copy")


@pytest.fixture
def put_back(postgresql):
    """What a dump of a cluster brings that had come much further than this one."""
    execute("UPDATE touched_gone SET place = ?", (10**12,))
    execute("INSERT INTO touched (place, accounts) VALUES (?, NULL)", (10**12 + 1,))
    yield
    execute("UPDATE touched_gone SET place = 0")


def test_what_was_touched_in_another_cluster_is_forgotten_and_nothing_else(put_back, postgresql):
    heard = []
    listener = Listener(lambda accounts: heard.append(accounts and list(accounts)))

    def look():
        heard.clear()
        listener.look()
        return heard

    assert look() == [None]
    assert look() == [None]
    with write_transaction():
        touch([1])
    with closing(psycopg2.connect(postgresql)) as slow, closing(slow.cursor()) as cursor:
        seven = (7).to_bytes(4, sys.byteorder)
        cursor.execute("INSERT INTO touched (accounts) VALUES (%s)", (seven,))
        touched.forget(0)
        assert value("SELECT count(*) FROM touched") == 1
        # Once more: nobody knows what it missed before.
        assert look() == [None]
        touched.forget(touched.place_of_now())
        assert look() == []
        slow.commit()
    assert look() == [[7]]
    with write_transaction():
        touch([2])
    assert look() == [[2]]
