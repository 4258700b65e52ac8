"""Empty databases for benchmarks: SQLite files, and a PostgreSQL of our own, on this machine."""

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.devnet.postgres import Postgres

# A new database of a kind, at each call.
MakeUrl = Callable[[], str]
KINDS = ("sqlite", "postgresql")


@contextlib.contextmanager
def store(kind: str, **settings: str) -> Iterator[MakeUrl]:
    """Make databases of a kind while the block runs; all are gone after it.

    The PostgreSQL does not wait for the disk, as everything here is about CPU; it may be told more.
    """
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder:
        if kind == "sqlite":
            yield lambda: f"sqlite:///{Path(folder) / secrets.token_hex(6)}.db"
            return
        server = Postgres(**settings)
        try:
            server.start()
            yield lambda: server.create_database(f"bench_{secrets.token_hex(6)}")
        finally:
            server.stop()
