"""The way to copy PostgreSQL that docs/operating.md shows, run as it stands there."""

import os
import re
import subprocess
from pathlib import Path

from server.storage.database import close_database, rows
from server.storage.migrate import check_schema
from server.storage.opening import open_database
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
