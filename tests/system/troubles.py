"""What can go wrong on the network while our service works, and how it is brought about."""

import random
import threading
from collections.abc import Callable

from simnet import Network
from simnet.traffic import Traffic
from tests.system.waiting import wait_until

COMMIT = {"kind": "#commit"}
HTTP_FAULTS = {
    "http-slow": {"delay_s": 0.7, "times": 5},
    "http-500": {"times": 3},
    "http-503-html": {"times": 2},
    "http-429": {"retry_after_s": 1},
    "http-hang": {"delay_s": 2.0},
    "http-drop": {"times": 2},
    "http-cut-body": {},
    "http-huge": {},
    "http-garbage": {},
    "rev-future": {},
    "list-foreign": {},
    "list-same-cursor": {},
    "list-broken-record": {"times": 3},
    "list-empty-page": {"times": 2},
}
STREAM_FAULTS = ("stream-drop", "stream-duplicate", "stream-too-big", "stream-no-blocks")
STRANGE_FRAMES = ("garbage", "text", "empty", "header-only", "fields-missing", "unknown-type")
CUTS = ("close", "reset", "too-slow")

Trouble = Callable[[], object]


class Troubles:
    """Faults of a network with two PDSes and a crowd; the first three of it are the viewers."""

    def __init__(self, net: Network, traffic: Traffic, rng: random.Random) -> None:
        self.net, self.traffic, self.rng = net, traffic, rng
        self.viewers = traffic.people[:3]
        self.leavers = [net.create_account(f"leaver{n}", pds=n % 2) for n in range(3)]
        for leaver in self.leavers:
            leaver.post("before I go", emit=False)
            self.viewers[0].follow(leaver, emit=False)

    def wild(self) -> list[Trouble]:
        """Each kind of trouble once, in a random order."""
        relay = self.net.relay.stream
        troubles: list[Trouble] = [
            *(lambda what=what: relay.inject(what) for what in STRANGE_FRAMES),
            lambda: relay.inject("garbage", stored=False),
            *(lambda name=name: self.arm(name) for name in HTTP_FAULTS),
        ]
        return self._shuffled(troubles + self.mild())

    def mild(self) -> list[Trouble]:
        """The same without those that leave a hole of everybody."""
        return self._shuffled(
            [
                *(
                    lambda name=name: self.net.faults.arm(name, times=2, every=3, where=COMMIT)
                    for name in STREAM_FAULTS
                ),
                self.wander,
                self.leave_and_return,
                self.leave_for_good,
                *self.harmless(),
            ]
        )

    def harmless(self) -> list[Trouble]:
        """Those that lose nothing for good: what they hold up comes later."""
        relay = self.net.relay.stream
        return self._shuffled(
            [
                *(lambda how=how: relay.cut(how) for how in CUTS),
                self.pause,
                self.overtake,
            ]
        )

    def arm(self, name: str) -> None:
        settings = {"times": 1, **HTTP_FAULTS[name]}
        where = {"host": f"pds{self.rng.randrange(2)}"}
        if name in ("http-huge", "http-garbage", "http-cut-body"):
            where["method"] = "com.atproto.repo.listRecords"
        self.net.faults.arm(name, where=where, **settings)

    def provoke_what_has_not_fired(self, seconds: float) -> None:
        """A fault of a request waits for one: have everybody fetched again until all came."""
        fired = self.net.faults.fired

        def left() -> list[str]:
            return [name for name in HTTP_FAULTS if not fired[name]]

        for name in left():
            self.arm(name)
        if left():
            self.net.relay.stream.inject("garbage")
        wait_until(lambda: not left(), seconds, lambda: f"never fired: {left()}")
        for name in HTTP_FAULTS:
            self.net.faults.disarm(name)

    def break_a_chain(self, has_shown: Callable[[], bool], seconds: float) -> None:
        """A lost commit shows in the next one, if its author is complete: lose some until then."""
        self.net.faults.arm("stream-drop", times=None, every=3, where=COMMIT)
        wait_until(has_shown, seconds, "no broken chain was noticed")
        self.net.faults.disarm("stream-drop")

    def quieten(self) -> None:
        """The end of all trouble: whoever has been silent since a loss says something again."""
        self.net.relay.stream.resume()
        self.net.relay.release()
        self.net.faults.disarm()
        for account in self.net.accounts():
            if account.status == "deactivated":
                account.activate()
            if account.status == "active":
                account.post(f"{account.handle} is still here")

    def pause(self) -> None:
        stream = self.net.relay.stream
        stream.stall()
        threading.Timer(0.5, stream.resume).start()

    def overtake(self) -> None:
        self.net.relay.hold(pds=self.rng.randrange(2))
        threading.Timer(0.5, self.net.relay.release).start()

    def wander(self) -> None:
        mover = self.rng.choice(self.traffic.people[3:])
        mover.migrate(1 - mover.state.pds)

    def leave_and_return(self) -> None:
        person = self.rng.choice(self.traffic.people[3:])
        if person.status == "active":
            person.deactivate()
            threading.Timer(0.7, lambda: person.activate()).start()

    def leave_for_good(self) -> None:
        staying = [leaver for leaver in self.leavers if leaver.status == "active"]
        if staying:
            staying[0].delete_account()

    def _shuffled(self, troubles: list[Trouble]) -> list[Trouble]:
        self.rng.shuffle(troubles)
        return troubles


def names_of_faults() -> set[str]:
    """Everything that must have happened by the end, as the network counts it."""
    cuts = {f"stream-{how}" for how in CUTS}
    strange = {f"stream-{what}" for what in STRANGE_FRAMES}
    odd = {"stream-stall", "stream-overtaken", "stream-forget", "stream-renumber"}
    return {*HTTP_FAULTS, *STREAM_FAULTS, *cuts, *strange, *odd}
