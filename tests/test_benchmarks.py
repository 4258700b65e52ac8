"""Benchmarks take minutes; but each can be started, and the shortest there is runs to its end."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks read /proc", allow_module_level=True)

from benchmarks import steady
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


def test_a_steady_stream_goes_into_each_kind_of_database_at_each_pace(monkeypatch, capsys):
    @contextlib.contextmanager
    def feeding(_plan):
        yield Feed("ws://localhost:1", 2, 3, 4)

    @contextlib.contextmanager
    def store(kind):
        yield lambda: kind

    def read(task):
        return Reading(task.count, 1.0, 4.0, 50.0, 1, task.database_url)

    monkeypatch.setattr(steady, "feeding", feeding)
    monkeypatch.setattr(steady, "store", store)
    monkeypatch.setattr(steady, "run", read)
    monkeypatch.setattr(sys, "argv", ["steady", "--paces", "500", "2000", "--seconds", "4"])
    steady.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [line[:3] for line in lines] == [
        ["sqlite", "500", "500"],
        ["sqlite", "2000", "2,000"],
        ["postgresql", "500", "500"],
        ["postgresql", "2000", "2,000"],
    ]
    assert {line[3] for line in lines} == {"25.0%"}
