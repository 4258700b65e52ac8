"""The folder in which gunicorn's processes share what they count.

The client library keeps each process's numbers in files that are mapped into memory, so the folder
is best in memory itself: on a full disk a write to such a file would kill its process. A folder
belongs to one gunicorn and is useless after it. It holds a lock as long as any of its processes
lives, and whoever starts next removes those that nobody holds.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

# The library reads this when it is imported, and then shares.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "gapless-metrics-"
_LOCK = "in-use"


def make_metrics_folder() -> Path:
    """A new folder, held until this process and all that it becomes or starts have ended."""
    memory = Path("/dev/shm")  # noqa: S108  not for files of known names
    root = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(root)
    # Under another name until it is held, so that nobody sweeps it.
    new = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=root))
    lock = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # It outlives the exec of gunicorn, and its workers inherit it.
    os.set_inheritable(lock, True)
    return new.rename(root / new.name.removeprefix("new-"))


def _sweep(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue  # somebody else's, or just being removed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
