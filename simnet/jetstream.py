"""A Jetstream: the network's events as JSON, one message an op, numbered by the time it saw them.

Serves both versions on one address, with the faults of every stream, and takes the filters of both:
of version 1 also on the open connection (requireHello, options_update). What it leaves out of the
real one: cursors that are numbers of version 2 and not times, the filter by kinds, the archive.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zstandard

from simnet.clock import iso
from simnet.event_log import Window
from simnet.faults import Faults
from simnet.frames import Body
from simnet.http_server import LoopbackServer, Reply, Request, Upgrade, xrpc_error
from simnet.repo import Commit
from simnet.stream import Stream
from simnet.websocket import serialize
from simnet.world import World

V1_PATH = "/subscribe"
V2_PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
DICTIONARY_PATH = "/xrpc/network.bsky.jetstream.getZstdDictionary"
_V2 = "network.bsky.jetstream.subscribeEvents"
# Below it, a cursor of version 2 is a number, and those are not kept here.
LEAST_TIME = 10**15
MAX_COLLECTIONS, MAX_DIDS = 100, 10_000

Event = dict[str, Any]


class Jetstream:
    """Fed by `receive`, in the order of the calls."""

    def __init__(
        self,
        name: str,
        world: World,
        clock: Callable[[], int],
        faults: Faults,
        window: Window | None = None,
    ) -> None:
        self.stream = _EventStream(
            name, clock, faults, announces_cursor_trouble=False, window=window
        )
        self.server = LoopbackServer(name, self._handle, faults)
        # Times that it has forgotten are refused, where the real ones begin at the oldest instead.
        self.refuses_old_times = False
        self.dictionary = _dictionary(77)
        self._listens = threading.Event()
        self._listens.set()
        self._faults = faults
        self._world = world
        self._clock = clock

    @property
    def v1_url(self) -> str:
        """The address of version 1 for STREAM_URLS."""
        return f"ws://127.0.0.1:{self.server.port}{V1_PATH}"

    @property
    def v2_url(self) -> str:
        """The address of version 2 for STREAM_URLS."""
        return f"ws://127.0.0.1:{self.server.port}{V2_PATH}"

    def receive(self, kind: str, body: Body, commit: Commit | None) -> None:
        """Take an event that the relay passes on."""
        did = body.get("repo") or body["did"]
        if kind != "#commit":
            inner = {key: value for key, value in body.items() if key != "blocks"}
            self.stream.say({"kind": kind[1:], "did": did, "inner": inner})
            return
        for op in body["ops"]:
            collection, _, rkey = op["path"].partition("/")
            event = {"kind": "commit", "did": did, "rev": body["rev"], "operation": op["action"]}
            event |= {"collection": collection, "rkey": rkey}
            stored = self._world.accounts[did].repo.get(collection, rkey)
            if op["cid"] is not None and stored is not None:
                event |= {"record": stored.value, "cid": op["cid"].text}
            self.stream.say(event)

    def _handle(self, request: Request) -> Reply | Upgrade:
        if request.path == DICTIONARY_PATH:
            return Reply(self.dictionary, content_type="application/octet-stream")
        if request.path not in (V1_PATH, V2_PATH):
            return xrpc_error(404, "MethodNotFound", "no such method")
        is_v2 = request.path == V2_PATH
        try:
            options = _options(request, is_v2=is_v2)
        except ValueError as error:
            return xrpc_error(400, "InvalidRequest", str(error))
        if request.query.get("zstdDictionary") not in (None, str(_id_of(self.dictionary))):
            return xrpc_error(400, "UnknownZstdDictionary", "no such dictionary, or retired")
        cursor = int(request.query.get("cursor", 0))
        if 0 < cursor < LEAST_TIME:
            return xrpc_error(400, "CursorTooOld", "only times are kept here")
        if self.refuses_old_times and self.stream.is_outdated(cursor):
            return xrpc_error(400, "CursorTooOld", f"cursor {cursor} below lookback floor")
        client = _Client(options, self._compressor(request), self._wait_to_listen, is_v2=is_v2)
        if not is_v2 and request.query.get("requireHello") == "true":
            client.has_greeted.clear()
        first = [serialize(_V2_OUTDATED)] if is_v2 and self.stream.is_outdated(cursor) else []
        # Cursors of a Jetstream are inclusive.
        return self.stream.take_in(cursor - 1 if cursor else None, client, first)

    def retire_dictionary(self) -> None:
        """From now on another one is handed out, and whoever asks for this one is refused."""
        self._faults.count("retired-dictionary")
        self.dictionary = _dictionary(_id_of(self.dictionary) + 1)

    def turn_away(self) -> None:
        """Hear nothing of what clients say, until `turn_back`; go on telling."""
        self._faults.count("stream-turn-away")
        self._listens.clear()

    def turn_back(self) -> None:
        """Take in what was said meanwhile."""
        self._listens.set()

    def _wait_to_listen(self) -> None:
        while not self._listens.wait(0.01) and not self.server.stopping.is_set():
            pass

    def _compressor(self, request: Request) -> zstandard.ZstdCompressor | None:
        query = request.query
        is_asked = query.get("compress") == "true" or "zstdDictionary" in query
        data = zstandard.ZstdCompressionDict(self.dictionary)
        return zstandard.ZstdCompressor(dict_data=data) if is_asked else None


class _Client:
    """One reader, with what it wants to be told."""

    def __init__(
        self,
        options: "_Options",
        compressor: zstandard.ZstdCompressor | None,
        wait_to_listen: Callable[[], None],
        *,
        is_v2: bool,
    ) -> None:
        self.options = options
        self.compressor = compressor
        self.wait_to_listen = wait_to_listen
        self.is_v2 = is_v2
        self.has_greeted = threading.Event()
        self.has_greeted.set()

    def may_begin(self) -> bool:
        return self.has_greeted.is_set()

    def wire(self, event: Event) -> bytes | None:
        if not self.options.wants(event):
            return None
        message = message_v2(event) if self.is_v2 else message_v1(event)
        if message is None or self.compressor is None:
            return None if message is None else serialize(message)
        return serialize(self.compressor.compress(message.encode()))

    def hear(self, text: str) -> tuple[int, str] | None:
        """An options_update replaces all options, and counts for every event told after it."""
        self.wait_to_listen()
        if self.is_v2:
            return 1008, "unexpected data message"
        try:
            said = json.loads(text)
            if said["type"] != "options_update":
                return None
            payload = said["payload"]
            lists = [payload.get(name) or [] for name in ("wantedCollections", "wantedDids")]
        except (ValueError, TypeError, LookupError, AttributeError):
            return 1007, "bad options_update"
        try:
            self.options = _Options(*map(frozenset, lists))
        except ValueError as error:
            return 1008, str(error)
        self.has_greeted.set()
        return None


@dataclass(frozen=True, slots=True)
class _Options:
    """What a reader wants to be told; an empty set means everything."""

    collections: frozenset[str]
    dids: frozenset[str]

    def __post_init__(self) -> None:
        if len(self.collections) > MAX_COLLECTIONS or len(self.dids) > MAX_DIDS:
            raise ValueError("too many wanted collections or DIDs")
        for did in self.dids:
            if not did.startswith("did:"):
                raise ValueError(f"invalid DID: {did}")

    def wants(self, event: Event) -> bool:
        """Collections are of commits only."""
        if self.dids and event["did"] not in self.dids:
            return False
        is_commit = event["kind"] == "commit"
        return not (is_commit and self.collections and event["collection"] not in self.collections)


def _options(request: Request, *, is_v2: bool) -> _Options:
    lists = request.lists
    if is_v2 and lists.keys() & {"wantedCollections", "wantedDids", "requireHello"}:
        raise ValueError("that is a parameter of /subscribe")
    names = ("collections", "dids") if is_v2 else ("wantedCollections", "wantedDids")
    return _Options(*(frozenset(lists.get(name, ())) for name in names))


class _EventStream(Stream):
    """Keeps events, not frames: each reader is told in its own version."""

    def say(self, event: Event) -> None:
        """Number an event by the time and tell it; an armed fault may spoil it."""
        with self._changed:
            self.next_seq = max(self.next_seq, self._clock())
            context = {"host": self.host, "kind": f"#{event['kind']}", "repo": event["did"]}
            seq = self._number()
            if self._faults.take("stream-drop", **context) is None:
                self._add(seq, {**event, "seq": seq})
            if self._faults.take("stream-duplicate", **context) is not None:
                self._add(seq, {**event, "seq": seq})

    def is_outdated(self, cursor: int) -> bool:
        """Whether events from this time on are forgotten already."""
        return 0 < cursor <= self.log.last_forgotten_seq


def message_v1(event: Event) -> str | None:
    """An event as version 1 tells it; None: it does not."""
    shown: Event = {"did": event["did"], "time_us": event["seq"], "kind": event["kind"]}
    if event["kind"] == "sync":
        return None
    shown[event["kind"]] = event["inner"] if "inner" in event else _op(event)
    return json.dumps(shown, separators=(",", ":"))


def message_v2(event: Event) -> str:
    """An event as version 2 tells it."""
    seconds, micros = divmod(event["seq"], 1_000_000)
    time = f"{iso(seconds * 1_000_000)[:19]}.{micros:06}Z"
    payload = {"$type": f"{_V2}#{event['kind']}", "seq": event["seq"], "did": event["did"]}
    payload["time"] = time
    payload |= {event["kind"]: event["inner"]} if "inner" in event else _op(event)
    return json.dumps({"$type": "message", "payload": payload}, separators=(",", ":"))


def _op(event: Event) -> Event:
    return {key: value for key, value in event.items() if key not in ("kind", "did", "seq")}


_V2_OUTDATED = json.dumps(
    {"$type": "message", "payload": {"$type": f"{_V2}#info", "name": "OutdatedCursor"}}
)


def _dictionary(number: int) -> bytes:
    """A dictionary trained on what a network like this one says."""
    samples = [
        message_v2(
            {"kind": "commit", "did": f"did:plc:{n * 7919:024}", "seq": 10**15 + n, "rev": f"{n}"}
        )
        for n in range(2000)
    ]
    return zstandard.train_dictionary(
        4096, [sample.encode() for sample in samples], dict_id=number
    ).as_bytes()


def _id_of(dictionary: bytes) -> int:
    return zstandard.ZstdCompressionDict(dictionary).dict_id()
