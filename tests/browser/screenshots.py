"""`make screenshots`: the pictures in docs/images, of a service on simnet's network."""

import sys
import tempfile
import time
from pathlib import Path

from tests.browser.chromium import Page, chromium, installed
from tests.browser.lively import Place, lively_place
from tests.system.waiting import wait_until

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESKTOP, PHONE = 800, 390
# Long enough that the charts have something to draw.
LIVELY_SECONDS = 150


def main() -> int:
    """Take them all."""
    program = installed()
    if program is None:
        sys.stderr.write("No Chromium here. On Debian: apt-get install chromium\n")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="gapless-screenshots-") as folder,
        lively_place(Path(folder), rate=8.0) as place,
        chromium(program) as browser,
        browser.page() as page,
    ):
        _live_for_a_while(place)
        _take(page, place, "/", "home.png", DESKTOP)
        _take(page, place, "/status", "status.png", DESKTOP)
        _take(page, place, "/status", "status-phone-dark.png", PHONE, dark=True)
        _take(page, place, f"/check?account={place.viewer.did}", "check.png", DESKTOP)
    return 0


def _live_for_a_while(place: Place) -> None:
    until = time.monotonic() + LIVELY_SECONDS

    def is_over() -> bool:
        place.open_feed(place.viewer)
        time.sleep(0.5)
        return time.monotonic() > until

    wait_until(is_over, LIVELY_SECONDS + 30, "the show ends")


def _take(
    page: Page, place: Place, path: str, name: str, width: int, *, dark: bool = False
) -> None:
    page.shape(width, 900, dark=dark, phone=width == PHONE)
    page.goto(place.url(path))
    picture = page.picture(width, 1500)
    (IMAGES / name).write_bytes(picture)
    sys.stdout.write(f"docs/images/{name}: {len(picture) / 1000:.0f} kB\n")


if __name__ == "__main__":
    sys.exit(main())
