"""Whether anything was committed to an SQLite file: seen in memory that its processes share.

It spares looks at what was touched (touched.py), and so most of what a page out of memory costs;
why that is of one moment, recent_page.py says.

Promises. As long as `state()` says the same, a statement that begins now sees what one saw that
began when it was first said. It takes a tenth of a microsecond and gives no thread away, where a
statement takes several and waits for Python's lock afterwards.

The first 96 bytes of the file beside the database that ends in `-shm` are two copies of the header
of the index of its log (sqlite.org/walformat.html, section 2.1). A commit is one for readers when
it is in there, with a counter and checksums that change each time.

The file is the same one for as long as somebody has the database open: so a connection of our own
stays open. Neither that nor the descriptor is ever closed, one of each for each database of a
process. Whoever closes a descriptor of a file gives up all locks that the process has on it
(POSIX), and SQLite has its locks on this one.
"""

import mmap
import os
import sqlite3
import threading
from pathlib import Path

_HEADERS = 96


class WalIndex:
    """Of one database file, which is in WAL mode. Raises OSError or sqlite3.Error if it is not."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        # It opens the log, and keeps it open, but no transaction.
        self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        self._descriptor = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._map = mmap.mmap(self._descriptor, _HEADERS, access=mmap.ACCESS_READ)

    def state(self) -> bytes:
        """What changes with each commit."""
        return self._map[:_HEADERS]


_lock = threading.Lock()
_opened: dict[tuple[int, Path], WalIndex] = {}


def wal_index(path: Path) -> WalIndex:
    """The one of this process. Raises OSError or sqlite3.Error as WalIndex does."""
    # A child of a process has inherited neither its locks nor its connections.
    key = os.getpid(), path
    with _lock:
        if key not in _opened:
            _opened[key] = WalIndex(path)
        return _opened[key]
