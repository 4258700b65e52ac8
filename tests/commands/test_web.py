"""What `web` gives to gunicorn on the way: a form for its words, and room for connections."""

import json
import resource
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server.open_files import MAX_FILES
from tests.commands.conftest import ROOT


@pytest.fixture
def words_of_gunicorn(sqlite_url, tmp_path):
    """Lines of a gunicorn that cannot have its port, and how many files it may open."""
    started = []

    def start(**environ):
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            process = subprocess.Popen(
                [sys.executable, "-m", "server", "web"],
                env={
                    "PYTHONPATH": str(ROOT),
                    "DATABASE_URL": sqlite_url,
                    "PORT": str(taken.getsockname()[1]),
                    **environ,
                },
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: resource.setrlimit(
                    resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
                ),
            )
            started.append(process)
            lines = []
            while not any("onnection in use" in line for line in lines):
                lines.append(process.stderr.readline())
                assert lines[-1], lines
            limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
            files = next(line for line in limits if line.startswith("Max open files"))
            return lines, int(files.split()[3])

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_settings_that_cannot_be_read_are_said_to_be_so(gapless, tmp_path):
    (tmp_path / ".env").write_bytes("FEED_HOSTNAME=café".encode("latin-1"))
    done = gapless("sqlite:///feeds.db", "status")
    assert (done.status, ".env cannot be read: 'utf-8'" in done.err) == (2, True)


def test_all_lines_have_the_form_that_was_asked_for(words_of_gunicorn):
    lines, _ = words_of_gunicorn(LOG_FORMAT="json")
    last = [json.loads(line) for line in lines][-1]
    assert last["logger"] == "gunicorn.error"
    assert last["level"] == "error"


def test_there_is_room_for_as_many_connections_as_it_takes(words_of_gunicorn):
    lines, files = words_of_gunicorn()
    assert files == min(MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert " ERROR   gunicorn.error: " in lines[-1]
