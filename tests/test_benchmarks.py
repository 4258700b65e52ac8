"""Benchmarks take minutes; but each can be started, and the shortest there is runs to its end."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks read /proc", allow_module_level=True)

from benchmarks import ingest, steady
from benchmarks.rig.feeder import Feed
from benchmarks.rig.reader import Reading

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if path.stem != "__init__"
)
BENCHMARKS = [name for name in MODULES if name.count(".") == 1]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_the_benchmarks_can_be_imported(name):
    importlib.import_module(name)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_says_what_it_can_be_told(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main()
    assert end.value.code == 0
    assert "options:" in capsys.readouterr().out


def test_every_benchmark_is_in_the_papers():
    text = (ROOT / "docs" / "benchmarks.md").read_text().partition("\n## ")[0]
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    shown = {cell.strip("` ") for line in table for cell in line.split(",")}
    assert shown == {name.rpartition(".")[2] for name in BENCHMARKS}


@pytest.mark.slow
def test_a_benchmark_of_jetstreams_ends_with_the_same_rows_however_they_are_read():
    options = "--frames 177 --laps 1 --stores sqlite --percent 100 --told recorded"
    kinds = ["relay", "v1", "v2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jetstream", *options.split(), "--kinds", *kinds],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-len(kinds) :]
    assert [line.split(",")[3].split()[0] for line in lines] == kinds
    (rows,) = {line.split()[-1] for line in lines}
    assert int(rows) > 0


@contextlib.contextmanager
def _feeding(_plan):
    yield Feed("ws://localhost:1", 2, 3, 4)


@contextlib.contextmanager
def _store(kind):
    yield lambda: kind


def _run(benchmark, monkeypatch, capsys, read, *arguments):
    """What it prints when nothing is fed and a reading is whatever `read` says."""
    for name, fake in (("feeding", _feeding), ("store", _store), ("run", read)):
        monkeypatch.setattr(benchmark, name, fake)
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    benchmark.main()
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_steady_stream_goes_into_each_kind_of_database_at_each_pace(monkeypatch, capsys):
    def read(task):
        return Reading(task.count, 1.0, 4.0, 50.0, 1, "")

    told = _run(steady, monkeypatch, capsys, read, "--paces", "500", "2000", "--seconds", "4")
    assert [line[:4] for line in told[-4:]] == [
        ["sqlite", "500", "500", "25.0%"],
        ["sqlite", "2000", "2,000", "25.0%"],
        ["postgresql", "500", "500", "25.0%"],
        ["postgresql", "2000", "2,000", "25.0%"],
    ]


def test_beside_busy_threads_the_stream_is_read_as_often_as_elsewhere(monkeypatch, capsys):
    walls_s = iter((1.0, 4.0, 2.0))

    def read(task, _certificate=None):
        wall_s = next(walls_s) if task.busy_threads else 8.0
        return Reading(task.count, 1.0, wall_s, 50.0, 1, "")

    arguments = ("--frames", "80", "--rounds", "3", "--stores", "sqlite", "--busy", "4")
    told = _run(ingest, monkeypatch, capsys, read, *arguments)
    # So many frames in the median of its times.
    assert told[-1][-3:] == ["40", "50", "1"]
    assert next(walls_s, None) is None
