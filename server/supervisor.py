"""`run`: web and ingest as two processes that live and die together.

The stream's reader shares no interpreter with requests, and a stop is one signal. If one of them
dies, the other is stopped and we end with a failure, so that whoever started us starts a clean
pair. If we are killed, the kernel stops both (on Linux).
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType

log = logging.getLogger(__name__)

# Less than the 10 s that platforms and people grant; after that it is the kernel's turn.
STOP_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "GAPLESS_PARENT"


def supervise() -> int:
    """Run both until a signal or until one ends; the exit status: 0 when we were asked to stop."""
    asked: list[int] = []

    def ask(signum: int, _frame: FrameType | None) -> None:
        asked.append(signum)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, ask)
    environ = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    children = {
        name: subprocess.Popen(  # noqa: S603  our own commands
            [sys.executable, "-m", "server", name],
            env=environ,
            # A Ctrl-C of the terminal reaches us alone, and we pass it on in order.
            start_new_session=True,
        )
        for name in ("ingest", "web")
    }
    while not asked and all(child.poll() is None for child in children.values()):
        time.sleep(0.1)
    for name, child in children.items():
        if child.poll() is not None and not asked:
            log.error("%s ended by itself status=%d: stopping", name, child.returncode)
    _stop(list(children.values()))
    return 0 if asked else 1


def is_supervised() -> bool:
    """Whether we are a child of `run`, which has brought the database up to date already."""
    return PARENT_VARIABLE in os.environ


def die_with_parent() -> None:
    """In a child of `run`: be stopped by the kernel when the parent is gone."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have died before we asked.
    if os.getppid() != int(parent):
        sys.exit(1)


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("process %d did not stop in time: killing it", child.pid)
            child.kill()
            child.wait()
