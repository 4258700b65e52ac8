"""Our commands in processes that start at once: forks of one that has everything imported.

`python -m server ingest` takes most of its start for imports. A campaign of hundreds of kills has
no time for that; what runs after the fork is the same command.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.__main__ import main
from tests.system.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Child:
    """One command that runs, or has ended."""

    def __init__(self, forks: "Forks", pid: int) -> None:
        self._forks, self.pid = forks, pid
        self.status: int | None = None

    @property
    def is_running(self) -> bool:
        if self.status is None:
            self.status = self._forks.ask({"poll": self.pid})
        return self.status is None

    def send(self, signum: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send(signal.SIGKILL)
        wait_until(lambda: not self.is_running, 10, "it is dead")


class Forks:
    """The process that forks. Use as a context manager; no child outlives it."""

    def __init__(self, environ: Mapping[str, str], log_path: Path) -> None:
        self.log_path = log_path
        self._environ = {"PATH": os.environ.get("PATH", os.defpath), **environ}
        self._children: list[Child] = []

    def __enter__(self) -> "Forks":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.forks", str(self.log_path)],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def start(self, command: str, **environ: str) -> Child:
        """Run a command with these variables besides those of all."""
        child = Child(self, self.ask({"command": command, "environ": environ}))
        self._children = [one for one in self._children if one.is_running] + [child]
        return child

    def ask(self, question: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def log_text(self, last: int = 6000) -> str:
        return self.log_path.read_text(errors="replace")[-last:]


def serve(log_path: str) -> None:
    """Answer questions until there are no more. Has no thread, so that it may fork."""
    for line in sys.stdin:
        question = json.loads(line)
        if "command" in question:
            answer: int | None = _fork(question["command"], question["environ"], log_path)
        else:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)  # noqa: T201  the protocol


def _fork(command: str, environ: Mapping[str, str], log_path: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environ)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, file in ((0, null), (1, log), (2, log)):
        os.dup2(file, target)
    os._exit(main([command]))


if __name__ == "__main__":
    serve(sys.argv[1])
