"""`make demo`: what a newcomer sees first."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_shows_a_timeline_that_is_complete_and_ends_by_itself():
    run = subprocess.run(
        [sys.executable, "-m", "simnet.demo", "--seconds", "6", "--rate", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The timeline as it was found" in run.stdout
    assert "none missing, none too many" in run.stdout
