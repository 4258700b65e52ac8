"""A service on a small, lively network, as somebody finds it who comes with a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from feeds import FEEDS
from simnet import Account, FeedFailed, Network, PatientClock
from simnet.repo import Ref
from simnet.traffic import Traffic
from tests.system.service import Service
from tests.system.waiting import wait_until


@dataclass(frozen=True)
class Place:
    """`viewer` opened a feed and likes it; `silent` opened one as well; `stranger` did neither."""

    net: Network
    service: Service
    publisher: Account
    viewer: Account
    silent: Account
    stranger: Account
    generator: Ref

    def url(self, path: str) -> str:
        """A page of ours."""
        return f"{self.service.url}{path}"

    def feed(self, rkey: str = FEEDS[0].rkey) -> str:
        """The URI of a feed."""
        return f"at://{self.publisher.did}/app.bsky.feed.generator/{rkey}"

    def open_feed(self, account: Account) -> int:
        """What an app does when somebody opens the feed; how many items come."""
        try:
            return len(self.net.get_feed(account, self.feed(), 30).items)
        except FeedFailed as failed:
            if failed.error != "FeedNotReady":
                raise
            return 0

    def like(self, account: Account) -> Ref:
        """Tap the heart on the feed's page; the like."""
        return account.like(self.generator)


@contextmanager
def lively_place(folder: Path, rate: float = 5.0, posts: int = 300) -> Iterator[Place]:
    """Twelve people who talk, `rate` things a second; two of them have opened a feed."""
    stop = Event()
    with Network(seed=7, pds=2, clock=PatientClock()) as net:
        traffic = Traffic(net, 7)
        traffic.write_history(posts, days=5)
        publisher = traffic.people[-1]
        database = f"sqlite:///{folder / 'feeds.db'}"
        service = Service({**net.environment(publisher), "DATABASE_URL": database}, folder)
        net.register_feed_service(service.did, service.url)
        published = [net.publish_feed(publisher, feed.rkey, service.did) for feed in FEEDS]
        place = Place(net, service, publisher, *traffic.people[:3], published[0])
        thread = traffic.start(rate, stop)
        try:
            service.start()
            place.like(place.viewer)
            for account in (place.viewer, place.silent):
                wait_until(lambda who=account: place.open_feed(who), 20, service.log_text)
            yield place
        finally:
            stop.set()
            thread.join()
            service.end()
