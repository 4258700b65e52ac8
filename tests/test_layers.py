"""Imports point down, files stay small, and names say what a thing is."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folder -> what its files may import besides the standard library and each other. The files
# directly in server/, and the commands, are the wiring: they may import anything, and nobody may
# import them.
WIRING = {"server/commands"}
ALLOWED = {
    "server/core": {"prometheus_client"},
    "feeds": {"server.core"},
    "migrations": {"peewee"},
    "server/storage": {"server.core", "peewee", "playhouse", "psycopg2"},
    "server/identity": {
        "server.core",
        "server.storage",
        "atproto",
        "atproto_crypto",
        "certifi",
        "coincurve",
        "cryptography",
        "dns",
        "httptools",
    },
    "server/ingest": {
        "server.core",
        "server.storage",
        "libipld",
        "msgspec",
        "zstandard",
    },
    "server/backfill": {"server.core", "server.storage", "server.identity", "msgspec"},
    "server/web": {
        "server.core",
        "server.storage",
        "server.identity",
        "feeds",
        "flask",
        "msgspec",
        "prometheus_client",
        "werkzeug",
    },
    "publishing": {"server.core", "feeds", "atproto", "httpx"},
    "simnet": {"coincurve", "cryptography", "libipld", "websockets", "zstandard"},
}
VAGUE = {"utils", "helpers", "common", "misc", "manager", "base", "processor", "engine"}
MAX_LINES = 300


def sources(*folders):
    """Every source file of ours below these folders."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if not any(part.startswith(".") for part in path.parts)]


OURS = [
    *sources("server", "feeds", "migrations", "publishing", "simnet", "benchmarks", "tests"),
    ROOT / "publish_feed.py",
]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported(path):
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            # `from server.storage import pages` imports server.storage.pages.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(module, package):
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_down(folder):
    own = folder.replace("/", ".")
    files = sources(folder)
    assert files
    for path in files:
        for module in imported(path):
            is_known = module.split(".")[0] in sys.stdlib_module_names or is_below(module, own)
            allowed = is_known or any(is_below(module, package) for package in ALLOWED[folder])
            assert allowed, f"{name_of(path)} imports {module}"


def test_every_folder_of_the_service_has_its_place():
    folders = {f"server/{path.parent.name}" for path in (ROOT / "server").glob("*/__init__.py")}
    assert folders - WIRING == {folder for folder in ALLOWED if folder.startswith("server/")}


def test_nobody_imports_the_wiring():
    wiring = {f"server.{path.stem}" for path in (ROOT / "server").glob("*.py")} - {
        "server.__init__"
    } | {folder.replace("/", ".") for folder in WIRING}
    for path in sources(*ALLOWED):
        above = [name for name in imported(path) if any(is_below(name, file) for file in wiring)]
        assert not above, f"{name_of(path)} imports {above}"


def test_neighbours_meet_in_the_database():
    for one, other in (("server/ingest", "server.backfill"), ("server/backfill", "server.ingest")):
        for path in sources(one, "server/web"):
            assert not [module for module in imported(path) if is_below(module, other)]


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_file_is_short_and_is_called_what_it_is(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_LINES
    assert not VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    if path.name != "__init__.py" or lines:
        assert lines[0].startswith('"""'), "the first line says what the module is"


def test_the_rules_would_notice(tmp_path):
    path = tmp_path / "late.py"
    path.write_text("def f():\n    import flask\n    from server.web import xrpc\n")
    assert set(imported(path)) == {"flask", "server.web.xrpc"}
