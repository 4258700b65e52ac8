"""A browser and a lively service, for the whole folder. Without Chromium everything is skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Page, chromium, installed
from tests.browser.lively import Place, lively_place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="package")
def browser() -> Iterator[Chromium]:
    program = installed()
    if program is None:
        pytest.skip("there is no Chromium here (on Debian: apt-get install chromium)")
    with chromium(program) as running:
        yield running


@pytest.fixture(scope="package")
def place(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with lively_place(tmp_path_factory.mktemp("place")) as lively:
        yield lively


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    """A tab of an ordinary window; nothing may go wrong in it unnoticed."""
    with browser.page() as tab:
        tab.shape(1000, 800)
        yield tab
        assert tab.trouble == []
