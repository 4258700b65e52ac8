"""A small AT Protocol network of our own, with real bytes on real sockets.

A PLC directory, PDSes, a relay and the AppView's part in custom feeds, over a seeded world, with
a fault plan that counts what it did. For the demo, for fault tests, for repeatable runs. It knows
nothing of the service that is tested with it, and is no reference: the official servers are.
"""

from simnet.account import Account
from simnet.appview import FeedFailed, FeedPage, HydratedItem
from simnet.clock import PatientClock, SteppingClock
from simnet.event_log import Window
from simnet.keys import OMIT, key_from_seed
from simnet.network import Network
from simnet.repo import Ref, Write

__all__ = [
    "OMIT",
    "Account",
    "FeedFailed",
    "FeedPage",
    "HydratedItem",
    "Network",
    "PatientClock",
    "Ref",
    "SteppingClock",
    "Window",
    "Write",
    "key_from_seed",
]
