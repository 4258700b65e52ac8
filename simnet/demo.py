"""`python -m simnet.demo`: our service on a lively network, one viewer's timeline as it grows."""

import _thread
import argparse
import os
import queue
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from simnet.appview import FeedFailed, FeedPage, HydratedItem
from simnet.expected import expected_everything
from simnet.narrator import Narrator
from simnet.network import Network
from simnet.service_process import NotStarted, ServiceProcess
from simnet.traffic import Happening, Traffic

POLL_SECONDS = 0.3
PAGE_ITEMS = 50
FIRST_ITEMS_SHOWN = 12
# How long the feed may take to be what the network says it should be, after the last event.
SETTLE_SECONDS = 10.0
HISTORY_DAYS = 3.0
RKEYS = ("following", "everything", "posts-only")


def main(argv: list[str] | None = None) -> int:
    """Show one viewer's timeline for a while. Needs no internet; everything is on this machine."""
    options = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In another thread: this one may hold the lock of `stop` at that moment.
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
    with (
        tempfile.TemporaryDirectory(prefix="gapless-demo-") as folder,
        Network(options.seed, pds=2) as network,
    ):
        return Demo(network, options, stop).run(Path(folder))


class Demo:
    """One run: build, start the service, watch, check, stop."""

    def __init__(
        self, network: Network, options: argparse.Namespace, stop: threading.Event
    ) -> None:
        self._network = network
        self._options = options
        self._stop = stop
        self._traffic = Traffic(network, options.seed)
        self._viewer = self._traffic.viewer
        self._happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._shown: dict[str, HydratedItem] = {}
        self._depth_us = 0
        # When the viewer came to follow somebody during the show, by handle.
        self._since_us: dict[str, int] = {}
        self._late_s: list[float] = []
        self._failures = 0
        colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._say = Narrator(_write, self._name, colours=colours)

    def run(self, folder: Path) -> int:
        """The whole show; returns the exit code."""
        self._traffic.write_history(160, HISTORY_DAYS)
        environment = self._network.environment(self._traffic.people[-1])
        service = ServiceProcess(folder, environment)
        for rkey in RKEYS:
            self._network.publish_feed(self._traffic.people[-1], rkey, service.did)
        self._network.register_feed_service(service.did, service.url)
        try:
            self._introduce(service)
            service.start(self._stop)
            return self._show(service)
        except NotStarted as reason:
            self._say.title(f"The service did not start: {reason}")
            return 1
        finally:
            service.stop()

    def _introduce(self, service: ServiceProcess) -> None:
        people, own = len(self._traffic.people), self._name(self._viewer.handle)
        follows = len(self._viewer.follows())
        self._say.title(f"{people} people on a small network of our own; none of them is real.")
        self._say.plain(f"Starting the service at {service.url} …")
        self._say.plain(f"{own} follows {follows} of them and opens '{self._options.feed}'.")

    def _show(self, service: ServiceProcess) -> int:
        began = time.monotonic()
        page = self._first_page()
        if page is None:
            return self._nothing_came()
        self._print_first(page, time.monotonic() - began)
        self._traffic.on_happening = self._happenings.put
        end_of_traffic = threading.Event()
        thread = self._traffic.start(self._options.rate, end_of_traffic)
        try:
            while time.monotonic() - began < self._options.seconds and not self._stop.is_set():
                self._stop.wait(POLL_SECONDS)
                self._poll()
                if service.has_ended:
                    self._say.title("The service ended by itself.")
                    return 1
        finally:
            end_of_traffic.set()
            thread.join()
        return self._conclude()

    def _first_page(self) -> FeedPage | None:
        """Ask as an app does until the timeline is built; the first request makes us known."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self._stop.is_set() and time.monotonic() < deadline:
            page = self._ask(self._options.feed)
            if page is not None and len(page.items) >= FIRST_ITEMS_SHOWN:
                return page
            self._stop.wait(POLL_SECONDS)
        return None

    def _nothing_came(self) -> int:
        if self._stop.is_set():
            return 0
        self._say.title(f"The feed stayed empty for {SETTLE_SECONDS:.0f} s.")
        return 1

    def _print_first(self, page: FeedPage, seconds: float) -> None:
        self._shown = {_key(item): item for item in page.items}
        self._depth_us = page.items[-1].sort_us
        self._say.title(f"The timeline as it was found, newest last ({seconds:.1f} s to build):")
        for item in reversed(page.items[:FIRST_ITEMS_SHOWN]):
            self._say.item(item, dated=True)
        self._say.title("And from here on, as it happens:")

    def _poll(self) -> None:
        changes = self._viewer_changes()
        page = self._ask(self._options.feed)
        for happening in changes:
            self._tell(happening)
        if page is None:
            return
        now_us = self._network.clock()
        fresh = [item for item in reversed(page.items) if _key(item) not in self._shown]
        # After items have gone a page reaches further down; that is no news.
        fresh = [item for item in fresh if item.sort_us > self._depth_us]
        history = [item for item in fresh if item.sort_us < self._since_us.get(_by(item), 0)]
        if history:
            names = ", ".join(sorted({self._name(_by(item)) for item in history}))
            self._say.change(now_us, f"{len(history)} earlier items by {names} have their place")
        for item in fresh:
            if item not in history:
                late_s = (now_us - item.sort_us) / 1_000_000
                self._late_s.append(late_s)
                self._say.item(item, late_s=late_s)
        self._forget_gone(page, now_us)
        self._shown.update((_key(item), item) for item in page.items)
        self._depth_us = page.items[-1].sort_us if page.items else 0

    def _forget_gone(self, page: FeedPage, now_us: int) -> None:
        """Say what stood in the part that the page covers and does not any more."""
        if not page.items:
            return
        oldest_us = page.items[-1].sort_us
        present = {_key(item) for item in page.items}
        gone = [
            item
            for key, item in self._shown.items()
            if item.sort_us > oldest_us and key not in present
        ]
        for item in gone:
            del self._shown[_key(item)]
        if len(gone) == 1:
            what = f"{self._name(_by(gone[0]))}: {gone[0].text}"
            self._say.change(now_us, f"gone from the timeline: {what}")
        elif gone:
            names = ", ".join(sorted({self._name(_by(item)) for item in gone}))
            self._say.change(now_us, f"{len(gone)} items by {names} are gone from the timeline")

    def _viewer_changes(self) -> list[Happening]:
        """What has happened since that concerns this timeline and is no item of it."""
        changes = []
        while not self._happenings.empty():
            happening = self._happenings.get_nowait()
            is_own = happening.who.did == self._viewer.did
            is_choice = happening.kind in ("follow", "unfollow") and is_own
            if is_choice or (happening.kind == "edit" and happening.ref.uri in self._shown):
                changes.append(happening)
        return changes

    def _tell(self, happening: Happening) -> None:
        if happening.kind == "follow" and happening.whom:
            self._since_us[happening.whom.handle] = self._network.clock()
        who = self._name(happening.who.handle)
        whom = self._name(happening.whom.handle) if happening.whom else ""
        words = {
            "follow": f"{who} follows {whom}: their history appears",
            "unfollow": f"{who} unfollows {whom}: their items go",
            "edit": f"{who} edits a post, which keeps its place: {happening.text}",
        }
        self._say.change(self._network.clock(), words[happening.kind])

    def _conclude(self) -> int:
        """Compare every page of the unfiltered feed with what the network knows to be true."""
        deadline = time.monotonic() + SETTLE_SECONDS
        expected = expected_everything(self._network.world, self._viewer.did)
        pages = self._whole_feed()
        while pages != expected and time.monotonic() < deadline and not self._stop.wait(0.2):
            pages = self._whole_feed()
        middle = f"{statistics.median(self._late_s):.1f} s" if self._late_s else "never"
        self._say.title(f"{len(self._late_s)} items came in, half of them within {middle}.")
        if self._failures:
            self._say.plain(f"{self._failures} requests failed.")
        if self._stop.is_set():
            return 0
        if pages == expected:
            self._say.plain(
                f"Compared with the truth: {len(expected)} items, none missing, none too many."
            )
            return 0
        missing, surplus = set(expected) - set(pages), set(pages) - set(expected)
        self._say.plain(
            f"Compared with the truth: {len(missing)} missing, {len(surplus)} too many"
            f"{'' if missing or surplus else ', the order differs'}."
        )
        return 1

    def _whole_feed(self) -> list[str]:
        keys: list[str] = []
        cursor = None
        while True:
            page = self._ask("everything", cursor)
            if page is None:
                return keys
            keys += [_key(item) for item in page.items]
            cursor = page.cursor
            if cursor is None:
                return keys

    def _ask(self, rkey: str, cursor: str | None = None) -> FeedPage | None:
        uri = f"at://{self._traffic.people[-1].did}/app.bsky.feed.generator/{rkey}"
        try:
            return self._network.get_feed(self._viewer, uri, PAGE_ITEMS, cursor)
        except FeedFailed as failed:
            if failed.error == "FeedNotReady":
                return None
            self._failures += 1
            if self._failures <= 3:
                self._say.plain(f"The feed could not be read: {failed}")
            return None

    def _name(self, handle: str) -> str:
        return self._traffic.names.get(handle, handle)


def _key(item: HydratedItem) -> str:
    return item.repost_uri or item.uri


def _by(item: HydratedItem) -> str:
    return item.reposted_by or item.author


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simnet.demo", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3, help="happenings a second")
    parser.add_argument("--feed", choices=RKEYS, default="following")
    return parser


if __name__ == "__main__":
    sys.exit(main())
