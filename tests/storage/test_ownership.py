"""What root makes beside the database is the service's: it belongs to whoever the folder does."""

import os

import pytest

from server.core.errors import BackupFailed
from server.storage import backup, leases
from server.storage.database import close_database, execute
from server.storage.migrate import migrate
from server.storage.opening import open_database
from server.storage.ownership import open_own
from tests.builders import NOW_US

SERVICE = 12_345
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def place(tmp_path):
    """A folder of another user, in which root has begun a database."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, SERVICE, SERVICE)
    open_database(f"sqlite:///{folder / 'gapless.db'}")
    migrate()
    yield folder
    close_database()


def owners(folder):
    return {path.name: path.stat().st_uid for path in folder.rglob("*")}


def test_what_root_makes_is_the_services(place):
    lease = leases.acquire("root", NOW_US)
    execute("UPDATE leases SET holder = 'still root'")
    made = backup.back_up(place / "backups", 7, NOW_US)
    lease.release()
    backup.restore(made, NOW_US)
    migrate()
    execute("UPDATE leases SET holder = 'root again'")
    found = owners(place)
    assert {"gapless.db", "gapless.db-wal", "gapless.db.write-lock", "backups"} <= found.keys()
    assert set(found.values()) == {SERVICE}
    assert not [path for path in place.glob("gapless.db*") if path.stat().st_mode & 0o022]


def test_what_was_there_and_what_a_link_leads_to_stays_whose_it_is(place, tmp_path):
    (place / "gapless.db.mine-lock").touch()
    os.close(open_own(place / "gapless.db.mine-lock", os.O_RDWR))
    (place / "link").symlink_to(tmp_path / "of root")
    with pytest.raises(FileNotFoundError):
        open_own(place / "link", os.O_RDWR)
    assert (place / "gapless.db.mine-lock").stat().st_uid == 0
    assert not (tmp_path / "of root").exists()


def test_a_folder_of_backups_that_is_there_stays_whose_it_is(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BackupFailed):
        backup.back_up(tmp_path / "file", 7, NOW_US)
    made = backup.back_up(tmp_path, 7, NOW_US)
    assert made.path.stat().st_uid == tmp_path.stat().st_uid == 0
