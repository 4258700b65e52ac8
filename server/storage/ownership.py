"""Files beside the database belong to whoever its folder belongs to, also those that root makes.

An operator who types a command as root would else leave files that the service, as another user,
cannot open. Files that are there already stay whose they are.
"""

import os
from contextlib import suppress
from pathlib import Path


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file; one that is not there is made."""
    flags |= os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        # Only a new one is given away: the owner of the folder may have put a link here.
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, flags)
    hand_over(file, path.parent)
    return file


def hand_over(file: int, folder: Path) -> None:
    """Give a file or folder that root has just made to whoever `folder` belongs to."""
    if os.geteuid() == 0:
        # Not every file system knows owners.
        with suppress(OSError):
            owner = folder.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)
