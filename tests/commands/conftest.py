"""Commands as somebody types them: a process, its exit status, and what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def gapless(tmp_path: Path) -> Callable[..., Done]:
    """Runs `python -m server WORDS` over a database, with nothing else set."""

    def run(url: str, *words: str, **environ: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "server", *words],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": url,
                **environ,
            },
            # Not in the checkout: somebody's .env there is none of ours.
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run
