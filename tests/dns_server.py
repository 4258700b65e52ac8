"""A DNS server on loopback, over UDP and TCP: tests say what it knows, and how it misbehaves."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from server.identity.txt_records import ResolverAddress

# What fits a datagram of somebody who did not say that more would do.
DATAGRAM_BYTES = 512
UDP, TCP = "udp", "tcp"


class DnsServer:
    """Knows TXT and CNAME records; names that it does not know do not exist.

    `misbehave(question, transport)` gives the messages to send instead, None to be good.
    `asked` is the name and transport of each question, `peers` who sent each datagram.
    """

    def __init__(self) -> None:
        self._udp, self._tcp = _bind()
        self.resolver = ResolverAddress(*self._udp.getsockname())
        self._records: dict[str, list[dns.rrset.RRset]] = {}
        self.rcode = dns.rcode.NOERROR
        # Over TCP, whether a byte comes only now and then.
        self.drips = False
        self.misbehave: Callable[[dns.message.Message, str], Iterable[bytes] | None] = lambda *_: (
            None
        )
        self.asked: list[tuple[str, str]] = []
        self.peers: list[tuple[str, int]] = []
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._run_udp, self._run_tcp)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._udp.close()
        self._tcp.close()

    def resolvers(self) -> list[ResolverAddress]:
        return [self.resolver]

    def prove(self, handle: str, *texts: bytes | str) -> None:
        """These TXT records, as somebody has them who owns a handle."""
        self.say(f"_atproto.{handle}", "TXT", *map(quoted, texts))

    def say(self, name: str, kind: str, *values: str) -> None:
        """The records of a name; none: it exists, and has none."""
        sets = self._records.setdefault(f"{name}.", [])
        if values:
            sets.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *values))

    def good_answer(self, question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question, recursion_available=True)
        answer.set_rcode(self.rcode)
        name, seen = question.question[0].name.to_text(), set()
        while name is not None and name not in seen:
            seen.add(name)
            sets = self._records.get(name)
            if sets is None and self.rcode == dns.rcode.NOERROR:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            answer.answer += sets or []
            aliases = [one[0].target for one in sets or () if one.rdtype == dns.rdatatype.CNAME]
            name = aliases[0].to_text() if aliases else None
        return answer

    def answer_with(self, question: dns.message.Message, *texts: str) -> bytes:
        """A proper answer, of these texts and whatever length."""
        answer = dns.message.make_response(question, recursion_available=True)
        name = question.question[0].name
        answer.answer = [dns.rrset.from_text(name, 60, "IN", "TXT", *map(quoted, texts))]
        return answer.to_wire(max_size=65_535)

    def _messages(self, wire: bytes, transport: str) -> Iterable[bytes]:
        try:
            question = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return []
        self.asked.append((question.question[0].name.to_text(omit_final_dot=True), transport))
        bad = self.misbehave(question, transport)
        if bad is not None:
            return bad
        whole = self.good_answer(question)
        data = whole.to_wire(max_size=65_535)
        if transport == UDP and len(data) > DATAGRAM_BYTES:
            whole.answer = []
            whole.flags |= dns.flags.TC
            data = whole.to_wire()
        return [data]

    def _run_udp(self) -> None:
        while not self.stop.is_set():
            with suppress(TimeoutError):
                wire, peer = self._udp.recvfrom(65_535)
                self.peers.append(peer)
                for message in self._messages(wire, UDP):
                    self._udp.sendto(message, peer)

    def _run_tcp(self) -> None:
        while not self.stop.is_set():
            with suppress(OSError):
                connection, _ = self._tcp.accept()
                with connection, connection.makefile("rb") as stream:
                    connection.settimeout(5)
                    wire = stream.read(int.from_bytes(stream.read(2)))
                    for message in self._messages(wire, TCP):
                        self._send(connection, len(message).to_bytes(2) + message)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        if not self.drips:
            connection.sendall(data)
            return
        for byte in data:
            connection.sendall(bytes([byte]))
            if self.stop.wait(0.05):
                return


def quoted(text: bytes | str) -> str:
    """A TXT record's one text, as zone files have it."""
    data = text.encode() if isinstance(text, str) else text
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def _bind() -> tuple[socket.socket, socket.socket]:
    """Both sockets on one port."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        for sock in (tcp, udp):
            sock.settimeout(0.02)
        return udp, tcp
