"""`.env.example` and the settings in the code say the same, both ways."""

import re
from pathlib import Path

import dotenv

from publishing import preflight
from server.__main__ import main
from server.core import config

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"
COMPOSE = ROOT / "deploy" / "compose" / "docker-compose.yml"
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


def test_what_stands_in_the_file_is_taken_as_it_is(tmp_path, monkeypatch, capsys):
    (tmp_path / ".env").write_text("BACKUP_KEEP=${HOME}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # What is read is put into the environment, here and nowhere else.
    monkeypatch.setattr("os.environ", {"HOME": "5"})
    assert main(["status"]) == 2
    assert "BACKUP_KEEP='${HOME}'" in capsys.readouterr().err


def test_compose_hands_on_every_setting_that_means_something_there():
    lines = COMPOSE.read_text(encoding="utf-8").splitlines()
    handed_on = [line.split(":")[0].strip() for line in lines if re.match(r" {4}[A-Z_]+: ", line)]
    # The port is Caddy's to know; the others name files of the container, or are for SQLite.
    fixed = {"PORT", "JETSTREAM_DICTIONARY", "BACKUP_DIR", "BACKUP_HOURS", "BACKUP_KEEP"}
    fixed.add("ALLOW_PRIVATE_HOSTS")
    assert len(handed_on) == len(set(handed_on))
    assert set(handed_on) == config.DEFAULTS.keys() - fixed


def test_an_empty_setting_is_the_default():
    assert config.load_config(dict.fromkeys(config.DEFAULTS, "")) == config.load_config({})
