"""A PDS, and the command with everything set as it should be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import publish_feed
from feeds import FEEDS
from tests.publish.pds import Pds


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@dataclass
class Command:
    """Runs `publish_feed.main`; what a test does not say is as an operator would have it."""

    environ: dict[str, str]
    avatars: Path
    read_output: Callable[[], tuple[str, str]]
    feeds: list = field(default_factory=lambda: list(FEEDS))

    def __call__(self, *argv: str, **environ: str) -> Outcome:
        settings = self.environ | environ
        try:
            code = publish_feed.main(argv, settings, self.feeds, self.avatars)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        outcome = Outcome(code, *self.read_output())
        password = settings["PUBLISH_APP_PASSWORD"]
        assert not password or password not in outcome.out + outcome.err
        return outcome


@pytest.fixture
def pds() -> Iterator[Pds]:
    with Pds() as server:
        yield server


@pytest.fixture
def command(pds: Pds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    environ = {
        "FEED_HOSTNAME": "feeds.example.com",
        "FEED_PUBLISHER_DID": pds.did,
        "PUBLISH_HANDLE": pds.handle,
        "PUBLISH_APP_PASSWORD": pds.password,
        "PUBLISH_PDS_URL": pds.url,
    }
    return Command(environ, tmp_path, lambda: tuple(capsys.readouterr()))
