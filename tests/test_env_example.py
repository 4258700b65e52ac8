"""`.env.example` and the settings in the code say the same, both ways."""

import re
from pathlib import Path

import dotenv

from publishing import preflight
from server.core import config

EXAMPLE = Path(__file__).parent.parent / ".env.example"
SETTING = re.compile(r"#?([A-Z][A-Z0-9_]*)=(.*)")


def settings_in_example() -> list[tuple[str, str]]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return [match.groups() for line in lines if (match := SETTING.fullmatch(line))]


def test_every_setting_stands_in_the_example_once_with_its_default():
    found = settings_in_example()
    assert len(found) == len(dict(found))
    assert dict(found) == config.DEFAULTS | preflight.DEFAULTS


def test_every_setting_is_explained_in_the_lines_above_it():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    explained = False
    for line in lines:
        if SETTING.fullmatch(line):
            assert explained, line
        else:
            explained = line.startswith("# ") and not line.startswith("# ---")


def test_the_example_as_it_is_starts_a_local_trial():
    environ = {name: text or "" for name, text in dotenv.dotenv_values(EXAMPLE).items()}
    assert config.load_config(environ) == config.load_config({})
