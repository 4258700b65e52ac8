"""Families of processes, as /proc tells of them. Signals go only to those that a test started."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        now = stat(self.pid)
        return now is not None and now[2] == self.started and now[1] != "Z"

    def send(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.is_alive():
                os.kill(self.pid, signum)

    @property
    def command(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            return ""


def stat(pid: int) -> tuple[int, str, str] | None:
    """Parent, state and start time; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), fields[0], fields[19]


def family(pid: int) -> list[Process]:
    """The process and all its descendants that live now, ancestors first."""
    found = {int(name): stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    known = {number: about for number, about in found.items() if about is not None}
    members, queue = [], [pid]
    while queue:
        number = queue.pop(0)
        if number in known:
            members.append(Process(number, known[number][2]))
            queue += sorted(child for child, about in known.items() if about[0] == number)
    return [member for member in members if member.is_alive()]
