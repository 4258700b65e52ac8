"""The papers say what is so: the map is the tree, named tests exist, links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Files of habit, which a map of the house need not show.
UNSHOWN = {"docs", "benchmarks", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"}


def test_the_map_in_the_readme_is_the_tree():
    text = (ROOT / "README.md").read_text()
    tree = text.split("## The map")[1].split("```")[1]
    shown = set(re.findall(r"^([\w.]+)/? ", tree, re.M))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and _is_ours(path)}
    assert folders - UNSHOWN == {name for name in shown if (ROOT / name).is_dir()}
    assert all((ROOT / name).exists() for name in shown)


def test_the_rooms_of_the_server_are_in_the_map():
    tree = (ROOT / "README.md").read_text().split("## The map")[1].split("```")[1]
    rooms = set(re.findall(r"^  (\w+)/ ", tree, re.M))
    assert rooms == {path.name for path in (ROOT / "server").iterdir() if _is_package(path)}


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_every_invariant_names_tests_that_exist():
    text = (ROOT / "docs" / "invariants.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    written = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if ".state" not in path.parts:
            written |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.M))
    assert len(named) > 20
    assert named - written == set()


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_what_papers_point_at_exists(paper):
    text = paper.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    paths = re.findall(
        r"`((?:server|tests|docs|feeds|simnet|migrations|deploy)/[a-z0-9_./]+)`", text
    )
    missing = [link for link in links if not (paper.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_every_target_that_papers_name_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for paper in PAPERS:
        for line in re.findall(r"`make ([a-z -]+)`", paper.read_text()):
            assert set(line.split()) <= targets, f"{paper.name}: make {line}"


def _is_ours(path: Path) -> bool:
    # `data` is what a service run here has stored.
    return not path.name.startswith((".", "__")) and path.name != "data"


def _is_package(path: Path) -> bool:
    return path.is_dir() and (path / "__init__.py").exists()
