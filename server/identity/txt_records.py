"""TXT records of DNS, asked of the system's resolvers and of nobody else.

Promises. There is an answer or an error within the deadline: over all resolvers, repetitions, UDP
and TCP together. An answer counts that comes from the resolver's address with our question and its
random number; whatever else arrives is passed over. One that is cut short is asked for again over
TCP, one of more than MAX_ANSWER_BYTES is not read, and of a chain of aliases dnspython follows 16.

dnspython writes and reads the messages; the sockets are ours. Its own go by the wall clock, and
read answers of 64 kB, which cost up to 0.7 s of the processor.

Nothing is kept, so an object may be shared between threads. That goes for the list of resolvers as
well: it is a page of text, and changes when a machine moves to another network.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdtypes.ANY.TXT import TXT

from server.core.errors import FetchFailed, NotFound

RESOLV_CONF = Path("/etc/resolv.conf")

# Resolvers asked of those in the file, as the C library has it; and how often each, since a packet
# may get lost.
MAX_RESOLVERS = 3
ROUNDS = 2

# Some nine hundred records; to read them takes 0.05 s of the processor.
MAX_ANSWER_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class ResolverAddress:
    """The address of a resolver, in figures."""

    host: str
    port: int = 53


def system_resolvers(path: Path = RESOLV_CONF) -> list[ResolverAddress]:
    """The resolvers that the system uses. Raises FetchFailed if there are none."""
    try:
        lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
    except OSError as error:
        raise FetchFailed(f"DNS cannot be asked: {path} cannot be read") from error
    found = [
        ResolverAddress(words[1]) for words in lines if words[:1] == ["nameserver"] and words[1:]
    ]
    if not found:
        raise FetchFailed(f"DNS cannot be asked: {path} names no nameserver")
    return found[:MAX_RESOLVERS]


class TxtRecords:
    """What DNS says. `resolvers` is asked anew, at each look-up, who is to be asked."""

    def __init__(self, resolvers: Callable[[], list[ResolverAddress]]) -> None:
        self._resolvers = resolvers

    def look_up(self, name: str, deadline_s: float) -> list[bytes]:
        """The texts at `name`, one for each record; `name` is complete and in ASCII.

        Raises NotFound if there are none, FetchFailed if that cannot be found out.
        """
        deadline = time.monotonic() + deadline_s
        try:
            whole = dns.name.from_text(name)
        except dns.name.NameTooLong:
            raise NotFound(f"{name} is too long for DNS") from None
        asked = self._resolvers() * ROUNDS
        problem = "no resolver"
        for index, resolver in enumerate(asked):
            # A resolver that swallows packets must not eat the time of those after it.
            share_s = (deadline - time.monotonic()) / (len(asked) - index)
            try:
                texts = _texts(_ask(resolver, whole, time.monotonic() + share_s))
            except (_NoAnswer, OSError, dns.exception.DNSException) as error:
                problem = f"{resolver.host}: {_describe(error)}"
                continue
            if not texts:
                raise NotFound(f"{name} has no TXT record")
            return texts
        raise FetchFailed(f"DNS does not say what {name} is ({problem})")


class _NoAnswer(Exception):
    """The resolver answered, and the answer is of no use; the message says why."""


def _describe(error: Exception) -> str:
    if isinstance(error, _NoAnswer):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return f"no connection ({error.strerror})"
    return "an answer that cannot be read"


def _ask(resolver: ResolverAddress, name: dns.name.Name, until: float) -> dns.message.Message:
    # A question for each try, since each has a number of its own.
    question = dns.message.make_query(name, dns.rdatatype.TXT)
    return _ask_udp(resolver, question, until) or _ask_tcp(resolver, question, until)


def _connect(resolver: ResolverAddress, kind: socket.SocketKind, until: float) -> socket.socket:
    """A connected socket; a datagram one then hears of nobody but the resolver."""
    found = socket.getaddrinfo(resolver.host, resolver.port, type=kind, flags=socket.AI_NUMERICHOST)
    family, _, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(_left_s(until))
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _ask_udp(
    resolver: ResolverAddress, question: dns.message.Message, until: float
) -> dns.message.Message | None:
    """The answer; None if it is longer than a datagram."""
    with _connect(resolver, socket.SOCK_DGRAM, until) as sock:
        sock.send(question.to_wire())
        while True:
            sock.settimeout(_left_s(until))
            wire = sock.recv(MAX_ANSWER_BYTES)
            if wire[:2] != question.id.to_bytes(2):
                continue
            if int.from_bytes(wire[2:4]) & dns.flags.TC:
                return None
            try:
                answer = dns.message.from_wire(wire)
            except dns.exception.DNSException:
                continue
            if question.is_response(answer):
                return answer


def _ask_tcp(
    resolver: ResolverAddress, question: dns.message.Message, until: float
) -> dns.message.Message:
    with _connect(resolver, socket.SOCK_STREAM, until) as sock:
        sock.sendall(question.to_wire(prepend_length=True))
        size = int.from_bytes(_read(sock, 2, until))
        if size > MAX_ANSWER_BYTES:
            raise _NoAnswer("an answer that is too long")
        wire = _read(sock, size, until)
    answer = dns.message.from_wire(wire)
    if answer.flags & dns.flags.TC or not question.is_response(answer):
        raise _NoAnswer("an answer to something else")
    return answer


def _read(sock: socket.socket, size: int, until: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(_left_s(until))
        piece = sock.recv(size - len(data))
        if not piece:
            raise _NoAnswer("it hung up")
        data += piece
    return data


def _left_s(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _texts(answer: dns.message.Message) -> list[bytes]:
    """The texts of an answer, at the end of its chain of aliases; each put together again."""
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _NoAnswer(f"it answers {dns.rcode.to_text(answer.rcode())}")
    if not isinstance(answer, dns.message.QueryMessage):
        raise _NoAnswer("an answer that cannot be read")
    records = answer.resolve_chaining().answer or ()
    return [b"".join(record.strings) for record in records if isinstance(record, TXT)]
