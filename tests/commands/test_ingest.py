"""`ingest` stands back for whoever answers readers, and for nobody else's session."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from server.commands import ingest
from server.commands.ingest import AUTOGROUP, NICENESS, stand_back


def _tell(pipe: Connection, has_session: bool) -> None:
    if has_session:
        os.setsid()
    before = AUTOGROUP.read_text()
    stand_back()
    pipe.send((os.getpriority(os.PRIO_PROCESS, 0), before, AUTOGROUP.read_text()))


def _told(has_session: bool) -> tuple[int, str, str]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_tell, args=(there, has_session))
    process.start()
    assert here.poll(20)
    found: tuple[int, str, str] = here.recv()
    process.join()
    return found


def _nicer() -> int:
    """What the tests' own niceness becomes; 19 is the kernel's most."""
    return min(19, os.nice(0) + NICENESS)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
def test_a_session_of_its_own_stands_back_as_a_whole() -> None:
    niceness, before, after = _told(has_session=True)
    assert niceness == _nicer()
    assert before.endswith(" nice 0\n")
    assert after.endswith(f" nice {NICENESS}\n")


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
def test_somebody_elses_session_is_left_as_it_is() -> None:
    niceness, before, after = _told(has_session=False)
    assert niceness == _nicer()
    assert before == after


def test_a_kernel_without_autogroups_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(os, "nice", told.append)
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    monkeypatch.setattr(ingest, "AUTOGROUP", tmp_path / "none" / "autogroup")
    stand_back()
    assert told == [NICENESS]
