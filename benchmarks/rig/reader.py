"""One contender reads the whole corpus once, in a process of its own that measures itself.

CPU time is that of the process: PostgreSQL's own is not in it, SQLite's is. The clock starts when
the reader is connected and quiet, and stops when the last frame is saved.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.rig import corpus
from benchmarks.rig.report import rss_mb
from server.core.setting_values import RELAY_PATH

# did, post or repost, rkey, milliseconds of its place, flags, subject, root.
Row = tuple[str, str, str, int, int, str | None, str | None]
READ_SECONDS = 300
# Who reads, in turn.
CONTENDERS = ("ours", "template")


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender has to do: `percent` of the repos are tracked, of a corpus of `count`.

    `busy_threads` compute beside the reader. `silent` more repos are tracked that write nothing.
    `pace` is that of the feeder, 0 for none. `dictionary` and `laps` are those of a Jetstream
    (rig/jetstream.py). `is_recorded`: the frames are those of rig/recording.py.
    """

    contender: str
    url: str
    go_port: int
    database_url: str
    count: int
    percent: int
    busy_threads: int = 0
    silent: int = 0
    pace: int = 0
    dictionary: str | None = None
    laps: int = 1
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """How it went. `digest` stands for the rows, in whatever table they are."""

    frames: int
    cpu_s: float
    wall_s: float
    rss_mb: float
    rows: int
    digest: str

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a frame."""
        return self.cpu_s / self.frames * 1e6

    @property
    def per_cpu_second(self) -> float:
        """Frames a second of CPU."""
        return self.frames / self.cpu_s


class Contender(Protocol):
    """A way to read a stream into a database."""

    def connect(self) -> None:
        """Be ready to read."""

    def read_all(self) -> None:
        """Read until the last frame is saved."""

    def close(self) -> None:
        """End whatever still runs."""

    def rows(self) -> list[Row]:
        """What is saved."""


def run(task: Task, certificate: Path | None = None) -> Reading:
    """Let a contender read in a process of its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    if certificate is not None:
        environment["SSL_CERT_FILE"] = str(certificate)
    command = [sys.executable, "-m", "benchmarks.rig.reader", json.dumps(asdict(task))]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=READ_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{task.contender} failed:\n{done.stderr[-3000:]}")
    return Reading(**json.loads(done.stdout.splitlines()[-1]))


def _contender(task: Task, frames: corpus.Corpus) -> Contender:
    # Each imports what it needs, so that neither pays for the other's libraries.
    if task.contender == "ours":
        from benchmarks.rig.ours import Ours  # noqa: PLC0415

        return Ours(task, frames)
    if not task.url.endswith(RELAY_PATH):
        from benchmarks.rig.template_jetstream import JetstreamTemplate  # noqa: PLC0415

        return JetstreamTemplate(task, frames)
    from benchmarks.rig.template import Template  # noqa: PLC0415

    return Template(task, frames)


def _window(task: Task) -> corpus.Corpus:
    if task.is_recorded:
        # A client of the official servers comes with it, which no other reader is to pay for.
        from benchmarks.rig import recording  # noqa: PLC0415

        return recording.load(task.count, with_frames=False)
    return corpus.load(task.count, with_frames=False)


def _measure(task: Task) -> Reading:
    frames = _window(task)
    contender = _contender(task, frames)
    contender.connect()
    _be_busy(task.busy_threads)
    # The reader's first ticks are over: what follows is its work.
    time.sleep(0.3)
    threading.Thread(target=_go, args=(task.go_port,)).start()
    began, began_cpu = time.monotonic(), time.process_time()
    contender.read_all()
    cpu_s, wall_s = time.process_time() - began_cpu, time.monotonic() - began
    memory_mb = rss_mb()
    contender.close()
    rows = sorted(map(repr, contender.rows()))
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return Reading(task.count, cpu_s, wall_s, memory_mb, len(rows), digest)


def _go(port: int) -> None:
    # No import here: the clock runs.
    socket.create_connection(("127.0.0.1", port)).close()


def _be_busy(count: int) -> None:
    def spin() -> None:
        while True:
            sum(range(1000))

    for _ in range(count):
        threading.Thread(target=spin, daemon=True).start()


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(Task(**json.loads(sys.argv[1]))))), flush=True)
    # Busy threads are not waited for.
    os._exit(0)
