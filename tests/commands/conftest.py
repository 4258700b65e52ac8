"""Commands as somebody types them: a process, its exit status, and what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simnet.faults import Faults
from simnet.plc import PlcDirectory
from simnet.world import World
from tests.builders import did
from tests.commands.with_resolver import RESOLVER_PORT
from tests.dns_server import DnsServer

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
    """Runs `python -m server WORDS` over a database, with nothing else set.

    With RESOLVER_PORT among the settings it asks that DNS server and not the system's.
    """

    def run(url: str, *words: str, **environ: str) -> Done:
        module = "tests.commands.with_resolver" if RESOLVER_PORT in environ else "server"
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
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


class Names:
    """A directory and a DNS server: who calls themselves what, and who may."""

    def __init__(self, dns_server: DnsServer) -> None:
        self.dns_server = dns_server
        self.plc = PlcDirectory(World(0), Faults(), lambda _state: "")
        self.settings = {
            "PLC_URL": self.plc.url,
            "ALLOW_PRIVATE_HOSTS": "1",
            RESOLVER_PORT: str(dns_server.resolver.port),
        }

    def claim(self, name: str, handle: str) -> None:
        """Somebody calls themselves so."""
        self.plc.overrides[did(name)] = {"id": did(name), "alsoKnownAs": [f"at://{handle}"]}

    def own(self, name: str, handle: str) -> None:
        """Somebody calls themselves so, and the name's owner agrees."""
        self.claim(name, handle)
        self.dns_server.prove(handle, f"did={did(name)}")


@pytest.fixture
def names(dns_server: DnsServer) -> Iterator[Names]:
    """Nobody has a handle yet."""
    made = Names(dns_server)
    made.plc.server.start()
    yield made
    made.plc.server.stop()
