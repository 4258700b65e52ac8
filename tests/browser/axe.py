"""axe-core, the accessibility checker that others use as well: fetched from npm once, and kept."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
STATE = Path(__file__).parent / ".state"
NPM_SECONDS = 120


class NotToBeHad(Exception):
    """There is no npm, or it reaches no registry."""


def axe_source() -> str:
    """The checker's JavaScript. Raises NotToBeHad."""
    kept = STATE / f"axe-{VERSION}.min.js"
    if not kept.exists():
        STATE.mkdir(exist_ok=True)
        kept.write_bytes(_fetch())
    source = kept.read_bytes()
    assert hashlib.sha256(source).hexdigest() == SHA256, f"{kept} is not axe-core {VERSION}"
    return source.decode()


def _fetch() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise NotToBeHad("there is no npm here")
    with tempfile.TemporaryDirectory(prefix="gapless-axe-") as folder:
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent"]
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, timeout=NPM_SECONDS
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotToBeHad(f"npm gave no axe-core: {error}") from error
        packed = next(Path(folder).glob("*.tgz")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read()
