"""Where to start reading a source, so that it goes on from what is saved and leaves no hole.

On the source that we were reading, at our own cursor. Anywhere else the numbers mean nothing, and
the time does: OVERLAP_MS before what is saved, because sources tell the same things a little
earlier or later than each other. A Jetstream is asked for a time, which all of them understand. A
relay takes only numbers of its own, so it is asked what happened at some of them: first what is
happening now, then twice as far back each time until that was before the wanted moment. That takes
two or three short connections after a failover, about a dozen after hours of outage. What is read
twice is harmless (storage/changes.py), and takes seconds for minutes of the network.

A source that does not reach back that far is read from its oldest event, and a hole is noted first.
Relays do not say that a number is too old: they start at their oldest event, whatever was asked. So
do Jetstreams with times. One that refuses the cursor all the same (CursorTooOld, FutureCursor) does
not say what it would take, and one that says there what we cannot read would say it again: both are
read from now on, after a hole. That holds until the source has said something; who comes back to it
later asks by a cursor again.

What is saved may be of a time that is still to come, by our clock and by that of the source: both
were ahead, as those of one machine are. Then nobody knows how much is saved, and there is a hole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from time import monotonic

from server.core.errors import BadFrame
from server.core.events import Info
from server.ingest.connection import Line
from server.ingest.frames import Span, copies
from server.ingest.source import Source
from server.ingest.websocket import open_stream
from server.storage.cursors import StreamCursor, load_cursor, load_position
from server.storage.stalls import DatabaseWait

# How much is read twice after a change of source. Relays are seconds apart when both are healthy.
OVERLAP_MS = 120_000
# Our own cursor of a source is used while it is at most this far behind what others told us since.
OWN_CURSOR_MS = 600_000
# The first step back from now, for each second that is missing: twice the usual rate.
EVENTS_PER_SECOND = 1000
# The time in one event may be anybody's joke.
PROBE_EVENTS = 5
# From when the connection stands; dialling has bounds of its own.
PROBE_SECONDS = 3.0
# Each doubles the way back: as many as there are numbers.
MAX_PROBES = 48


@dataclass(frozen=True, slots=True)
class Start:
    """`cursor` None: from now on. Everything before `saved_ms` is saved; 0: nothing is.

    `own`: the cursor is our own of this very source, so its numbers go on. `hole`: why something is
    missing before the first event. `voids_chains`: what we have comes from a source without chains.
    """

    cursor: int | None
    saved_ms: int = 0
    own: StreamCursor | None = None
    hole: str | None = None
    voids_chains: bool = False


async def find_start(
    source: Source,
    user_agent: str,
    now_ms: int,
    useless: str | None = None,
    wait: DatabaseWait | None = None,
) -> Start:
    """Where to go on in this source. Raises StreamBroken if it cannot be asked.

    `useless`: what was wrong with our cursor when it was last asked by one. `wait`: see writer.py.
    """
    with (wait or DatabaseWait("stream")).under_way():
        own, position = load_cursor(source.name), load_position()
    if position is None:
        return Start(None)
    if useless is not None:
        return Start(None, position.event_ms, hole=useless)
    is_own = own is not None and position.event_ms - own.event_ms <= OWN_CURSOR_MS
    if own is not None and is_own and not source.counts_time:
        return Start(own.seq, own.event_ms, own)
    if await _is_to_come(source, user_agent, position.event_ms, now_ms):
        return Start(None, now_ms, hole="what is saved is of a time to come")
    if own is not None and is_own:
        return Start(_time_cursor(own.event_ms), own.event_ms)
    if source.counts_time:
        return Start(_time_cursor(position.event_ms), position.event_ms)
    cursor, is_reached = await _number_before(source, user_agent, position.event_ms, now_ms)
    hole = None if is_reached else "the source does not reach back to what is saved"
    return Start(cursor, position.event_ms, None, hole, not position.has_chain)


def _time_cursor(saved_ms: int) -> int:
    return max(saved_ms - OVERLAP_MS, 1) * 1000


async def _is_to_come(source: Source, user_agent: str, saved_ms: int, now_ms: int) -> bool:
    if saved_ms - now_ms <= OVERLAP_MS:
        return False
    newest = await probe(source, user_agent, None)
    return newest is None or saved_ms - newest.time_ms > OVERLAP_MS


async def _number_before(
    source: Source, user_agent: str, saved_ms: int, now_ms: int
) -> tuple[int, bool]:
    """A number of the source's that is older than `saved_ms`, and whether it is."""
    wanted_ms = saved_ms - OVERLAP_MS
    newest = await probe(source, user_agent, None)
    step = max(now_ms - wanted_ms, 1000) // 1000 * EVENTS_PER_SECOND
    # A network so quiet that nothing happens in seconds is replayed from its beginning.
    number = max(newest.seq - step, 0) if newest is not None else 0
    oldest_seq = None
    for _ in range(MAX_PROBES):
        found = await probe(source, user_agent, number)
        if found is not None and found.time_ms <= wanted_ms:
            return number, True
        if number == 0 or found is None or (oldest_seq is not None and found.seq >= oldest_seq):
            # Asked for older numbers, it says the same: it has none.
            return 0, False
        oldest_seq = found.seq
        step *= 2
        number = max(newest.seq - step, 0) if newest is not None else 0
    return 0, False


@dataclass(frozen=True, slots=True)
class Found:
    """The number of an event, and what time it was then."""

    seq: int
    time_ms: int


async def probe(source: Source, user_agent: str, cursor: int | None) -> Found | None:
    """The first event after `cursor` (None: from now on); None if nothing is said for a while."""
    reader = _Probe(source)
    await open_stream(source.address(cursor), user_agent, reader)
    if not reader.seqs:
        return None
    return Found(reader.seqs[0], median_low(reader.times))


class _Probe:
    """Reads a few events, and forgets them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seqs: list[int] = []
        self.times: list[int] = []
        self.until = 0.0

    def opened(self, line: Line) -> None:
        """How long it took to connect says nothing of what there is to be told."""
        self.until = monotonic() + PROBE_SECONDS

    def arrived(self) -> None:
        """One read is like another."""

    def messages(
        self, memory: memoryview, spans: Sequence[Span], *, is_text: bool
    ) -> Iterator[None]:
        for data in copies(memory, spans, is_text=is_text):
            self._message(data)
            yield

    def _message(self, data: bytes | str) -> None:
        try:
            event = self.source.decode(data, {})
        except BadFrame:
            return
        if not isinstance(event, Info) and event.time_ms and len(self.seqs) < PROBE_EVENTS:
            self.seqs.append(event.seq)
            self.times.append(event.time_ms)

    def tick(self) -> bool:
        return len(self.seqs) < PROBE_EVENTS and monotonic() < self.until
