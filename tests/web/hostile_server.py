"""A server of somebody who means harm: the DID that it is asked about decides how it answers."""

import gzip
import json
import re
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache

from simnet import Account, Network
from tests.identity.wire import read_request

PIECE = b" " * 65_536
MANY_BYTES = 100_000_000
DRIP_SECONDS = 0.2

Answer = Callable[["HostileServer", socket.socket], None]


def _head(connection: socket.socket, *lines: str, status: str = "200 OK") -> None:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", "Connection: close", *lines]
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")


def _whole(connection: socket.socket, body: bytes, status: str = "200 OK") -> None:
    _head(connection, f"Content-Length: {len(body)}", status=status)
    connection.sendall(body)


def drips_its_headers(server: "HostileServer", connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not server.stop.wait(DRIP_SECONDS):
        connection.sendall(b"X: 1\r\n")


def drips_its_body(server: "HostileServer", connection: socket.socket) -> None:
    _head(connection, "Content-Length: 50000")
    while not server.stop.wait(DRIP_SECONDS):
        connection.sendall(b" ")


def says_nothing(server: "HostileServer", connection: socket.socket) -> None:
    server.stop.wait(30)


def sends_100_megabytes(server: "HostileServer", connection: socket.socket) -> None:
    _head(connection, f"Content-Length: {MANY_BYTES}")
    for _ in range(MANY_BYTES // len(PIECE)):
        connection.sendall(PIECE)


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
    return (
        b"".join(packer.compress(PIECE) for _ in range(MANY_BYTES // len(PIECE))) + packer.flush()
    )


def sends_a_gzip_bomb(server: "HostileServer", connection: socket.socket) -> None:
    bomb = _bomb()
    _head(connection, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    connection.sendall(bomb)


def redirects_to_the_cloud(server: "HostileServer", connection: socket.socket) -> None:
    place = "Location: http://169.254.169.254/latest/meta-data/"
    _head(connection, place, "Content-Length: 0", status="302 Found")


def redirects_to_a_neighbour(server: "HostileServer", connection: socket.socket) -> None:
    place = f"Location: http://127.0.0.1:{server.port}/trap"
    _head(connection, place, "Content-Length: 0", status="307 Temporary Redirect")


def speaks_of_somebody_else(server: "HostileServer", connection: socket.socket) -> None:
    _whole(connection, json.dumps(server.net.plc.document(server.honest_did)).encode())


def nests_deeply(server: "HostileServer", connection: socket.socket) -> None:
    _whole(connection, b'{"id":' + b"[" * 30_000 + b"]" * 30_000 + b"}")


def speaks_html(server: "HostileServer", connection: socket.socket) -> None:
    _whole(connection, gzip.compress(b"<html>not what was asked for</html>"))


def hangs_up_in_the_middle(server: "HostileServer", connection: socket.socket) -> None:
    _head(connection, "Content-Length: 5000")
    connection.sendall(b'{"id": "did:plc:')


ANSWERS: dict[str, Answer] = {
    answer.__name__: answer
    for answer in (
        drips_its_headers,
        drips_its_body,
        says_nothing,
        sends_100_megabytes,
        sends_a_gzip_bomb,
        redirects_to_the_cloud,
        redirects_to_a_neighbour,
        speaks_of_somebody_else,
        nests_deeply,
        speaks_html,
        hangs_up_in_the_middle,
    )
}


def did_of(answer: str) -> str:
    """The account about which the server answers in this way."""
    return "did:plc:" + re.sub("[^a-z]", "", answer).ljust(24, "a")[:24]


class HostileServer:
    """A directory, and a PDS. About accounts of the network it says what is true, as directory."""

    def __init__(self, net: Network, honest: Account) -> None:
        self.net, self.honest_did = net, honest.did
        self.stop = threading.Event()
        # How often each answer was given; "trap": how often a redirect was followed.
        self.given: Counter[str] = Counter()
        # Accounts that live here: the directory says so, and only the PDS is hostile.
        self.hosted: dict[str, dict[str, object]] = {}
        # Before anybody waits for it.
        _bomb()
        self._by_did = {did_of(name): name for name in ANSWERS}
        self._listeners: list[socket.socket] = []
        self.port = self._listen()
        self.url = f"http://127.0.0.1:{self.port}"

    def host(self, name: str) -> str:
        """Make an account with a PDS of its own, which answers in this way; its DID."""
        did = did_of(name)
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": f"http://127.0.0.1:{self._listen()}",
        }
        self.hosted[did] = {"id": did, "service": [service]}
        return did

    def close(self) -> None:
        self.stop.set()
        for listener in self._listeners:
            # Wakes the thread that waits in it.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _listen(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection:
            try:
                request = read_request(connection).decode("latin-1").replace("%3A", ":")
                self._answer(connection, request)
            except OSError:
                return  # we were hung up on, which is the point

    def _answer(self, connection: socket.socket, request: str) -> None:
        target = request.split(" ")[1]
        if target == "/trap":
            self.given["trap"] += 1
        found = re.search("did:plc:[a-z2-7]{24}", target)
        did = found[0] if found else ""
        is_about_document = "/xrpc/" not in target
        if is_about_document and did in self.hosted:
            return _whole(connection, json.dumps(self.hosted[did]).encode())
        if did in self._by_did:
            name = self._by_did[did]
            self.given[name] += 1
            return ANSWERS[name](self, connection)
        document = self.net.plc.document(did)
        status = "200 OK" if document else "404 Not Found"
        return _whole(connection, json.dumps(document or {}).encode(), status)
