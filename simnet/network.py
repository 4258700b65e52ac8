"""A whole network on loopback: starts its servers, makes accounts, plays the app."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from simnet import frames
from simnet.account import Account
from simnet.appview import AppView, FeedPage
from simnet.clock import iso, wall_clock_us
from simnet.event_log import Window
from simnet.faults import Faults
from simnet.http_server import LoopbackServer
from simnet.jetstream import Jetstream
from simnet.keys import SigningKey, sign_jwt
from simnet.pds import Pds
from simnet.plc import PlcDirectory
from simnet.relationships import Relationships
from simnet.relay import FIRST_SEQ, Relay
from simnet.repo import Commit, Ref
from simnet.service_auth import service_claims
from simnet.world import LiveRecord, World

GENERATOR = "app.bsky.feed.generator"
# What the official PDS allows one address in five minutes.
DEFAULT_RATE_LIMIT = 3000


class Network:
    """Use as a context manager, or `start` and `stop`. `clock` gives microseconds."""

    def __init__(
        self,
        seed: int = 1,
        *,
        pds: int = 1,
        clock: Callable[[], int] = wall_clock_us,
        rate_limit: int = DEFAULT_RATE_LIMIT,
        window: Window | None = None,
        relay_announces_cursor_trouble: bool = False,
        relays: int = 1,
        jetstreams: int = 0,
    ) -> None:
        self.clock = clock
        self.world = World(seed)
        self.faults = Faults()
        self.appview = AppView(self.world)
        # All relays hear the same; each has its own numbers, its own window and its own faults.
        self.relays = [
            Relay(
                self.world,
                clock,
                self.faults,
                name="relay" if index == 0 else f"relay{index}",
                first_seq=FIRST_SEQ * (index + 1),
                window=window,
                announces_cursor_trouble=relay_announces_cursor_trouble,
            )
            for index in range(relays)
        ]
        self.relay = self.relays[0]
        self.jetstreams = [
            Jetstream(f"jetstream{index}", self.world, clock, self.faults, window)
            for index in range(jetstreams)
        ]
        self.pds = [
            Pds(index, self.world, clock, self.faults, self._tell, rate_limit=rate_limit)
            for index in range(pds)
        ]
        self.relationships = Relationships(self.world, self.faults)
        self.plc = PlcDirectory(self.world, self.faults, lambda state: self.pds[state.pds].url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open all doors."""
        for server in self._servers():
            server.start()

    def stop(self) -> None:
        """Close all doors and wait for every thread."""
        for host in self._tellers():
            host.stream.stop()
        for server in self._servers():
            server.stop()

    def create_account(
        self, name: str, pds: int = 0, *, curve: str = "k256", emit: bool = True
    ) -> Account:
        """A new account `name`.test, told to the world as the official PDS does."""
        with self.world.lock:
            state = self.world.create(name, pds, curve)
            account, host, now_us = Account(state, self.pds), self.pds[pds], self.clock()
            if emit:
                account.emit_identity(state.handle)
                host.emit("#account", frames.account(state.did, "active", now_us))
            account.apply([], at_us=now_us, emit=emit)
            if emit:
                account.emit_sync()
            return account

    def account(self, name: str) -> Account:
        """An account by DID, handle or short name."""
        state = self.world.find(name) or self.world.find(f"{name}.test")
        if state is None:
            raise KeyError(name)
        return Account(state, self.pds)

    def accounts(self) -> list[Account]:
        """All of them, oldest first."""
        with self.world.lock:
            return [Account(state, self.pds) for state in self.world.accounts.values()]

    def records(self, *collections: str) -> Iterator[LiveRecord]:
        """The truth: every record that exists now."""
        return self.world.records(*collections)

    def register_feed_service(self, did: str, endpoint: str) -> None:
        """Say where the generator with this DID answers."""
        self.appview.services[did] = endpoint

    def publish_feed(
        self, publisher: Account, rkey: str, service_did: str, display_name: str = ""
    ) -> Ref:
        """Write a generator record; its uri is what `get_feed` wants."""
        record = {
            "did": service_did,
            "displayName": display_name or rkey,
            "createdAt": iso(self.clock()),
        }
        return publisher.put(GENERATOR, rkey, record)

    def get_feed(
        self,
        viewer: Account | None,
        feed_uri: str,
        limit: int = 50,
        cursor: str | None = None,
    ) -> FeedPage:
        """One page of a feed as the viewer's app gets it; raises FeedFailed. None: no login."""

        def sign(aud: str, lxm: str) -> str:
            if viewer is None:
                raise ValueError("nobody is there to sign")
            return self.service_token(viewer, aud, lxm)

        return self.appview.get_feed(feed_uri, limit, cursor, sign if viewer else None)

    def service_token(
        self,
        account: Account,
        aud: str,
        lxm: str,
        *,
        header: dict[str, Any] | None = None,
        payload: dict[str, Any] | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """The token its PDS would sign; fields may be forged (OMIT leaves one out), the key too."""
        honest_header, honest_payload = service_claims(account.did, account.state.key.alg, aud, lxm)
        return sign_jwt(
            {**honest_header, **(header or {})},
            {**honest_payload, **(payload or {})},
            key or account.state.key,
        )

    def environment(self, publisher: Account | None = None) -> dict[str, str]:
        """The settings with which a feed service finds this network."""
        settings = {
            "STREAM_URLS": self.relay.url,
            "PLC_URL": self.plc.url,
            "APPVIEW_URL": self.relationships.url,
            "ALLOW_PRIVATE_HOSTS": "1",
            # Who tests or measures asks more often than people do.
            "VIEWER_REQUESTS_PER_MINUTE": "1000000",
        }
        return settings if publisher is None else {**settings, "FEED_PUBLISHER_DID": publisher.did}

    def _servers(self) -> list[LoopbackServer]:
        tellers = (host.server for host in self._tellers())
        return [self.plc.server, *tellers, self.relationships.server]

    def _tellers(self) -> list[Relay | Jetstream | Pds]:
        return [*self.relays, *self.jetstreams, *self.pds]

    def _tell(self, pds: int, kind: str, body: frames.Body, commit: Commit | None) -> None:
        for relay in self.relays:
            relay.receive(pds, kind, body, commit)
        state = self.world.accounts[body.get("repo") or body["did"]]
        for jetstream in self.jetstreams if state.pds == pds else ():
            jetstream.receive(kind, body, commit)
