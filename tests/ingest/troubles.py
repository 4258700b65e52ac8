"""Servers, networks and resolvers as bad as they get: each is a context that gives an address."""

import json
import socket
import ssl
import struct
import threading
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from server.core.setting_values import JETSTREAM_V2_PATH
from server.ingest.doubts import MAX_UNREADABLE
from simnet.frames import error
from tests.identity.certificates import make_certificate
from tests.ingest.test_websocket import serving, wait_closed


@contextmanager
def refusing(status, text="not now", **headers):
    """A server that answers every handshake with this status."""

    def refuse(connection, request):
        answer = connection.respond(status, text)
        for name, value in headers.items():
            answer.headers[name] = value
        return answer

    with serving(wait_closed, process_request=refuse) as url:
        yield url


@contextmanager
def resolver(look_up):
    """The system's resolver as it may be: it has the time it wants, and nobody can interrupt it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield "ws://relay.example.com"


def unknown_name():
    def fail(*args, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    return resolver(fail)


@contextmanager
def hanging_resolver():
    is_over = threading.Event()
    try:
        with resolver(lambda *args, **more: is_over.wait(60) and []) as url:
            yield url
    finally:
        is_over.set()


@contextmanager
def strange_certificate(folder):
    certificate, key = make_certificate(folder, "relay.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(wait_closed, ssl=context) as url:
        yield url.replace("ws://127.0.0.1", "wss://localhost")


@contextmanager
def nobody():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"ws://127.0.0.1:{port}"


@contextmanager
def deaf(scheme="ws"):
    """The kernel accepts, and the server never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"{scheme}://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def swallowing():
    """A port whose queue is full: the kernel drops what knocks, as a firewall would."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def accepting(attend):
    """A server of raw sockets: `attend` gets each connection, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with suppress(OSError):
                while True:
                    attend(listener.accept()[0])

        thread = threading.Thread(target=accept, name="server")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def vanishing():
    """A line whose other end is gone after the handshake: no goodbye, no reset, nothing."""
    with serving(wait_closed) as url, ExitStack() as held:

        def carry(connection):
            ours = held.enter_context(connection)
            theirs = held.enter_context(socket.create_connection(("127.0.0.1", urlsplit(url).port)))
            theirs.sendall(ours.recv(65_536))
            ours.sendall(theirs.recv(65_536))

        with accepting(carry) as line:
            yield line


@contextmanager
def babbling(scheme="ws"):
    """A server of something else."""

    def answer(connection):
        with connection:
            connection.recv(65_536)
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    with accepting(answer) as url:
        yield url.replace("ws", scheme)


def hanging_up(*, resets):
    """A server that has no answer."""

    def leave(connection):
        with connection:
            connection.recv(65_536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", resets, 0))

    return accepting(leave)


def saying(name, text):
    """A server that greets with an error frame, of the kind that it is asked for."""

    def talk(connection):
        is_v2 = connection.request.path.startswith(JETSTREAM_V2_PATH)
        told = json.dumps({"$type": "error", "error": name, "message": text})
        connection.send(told if is_v2 else error(name, text))
        wait_closed(connection)

    return serving(talk)


def mumbling():
    """A server whose every message is nonsense."""

    def talk(connection):
        for _ in range(MAX_UNREADABLE):
            connection.send("nonsense")
        wait_closed(connection)

    return serving(talk)


def straying(connection):
    """A frame of a kind that there is not."""
    connection.socket.sendall(b"\x83\x00")
    wait_closed(connection)


def cut(connection):
    connection.socket.shutdown(socket.SHUT_RDWR)


# What a Jetstream 1 has no words for.
UNSAID_BY_V1 = ("we are too slow", "an error of its own")

# What happens: its kind, a server that does it, and what the log has to say.
TROUBLES = {
    "the name is unknown": ("dns", unknown_name, "not known"),
    "the resolver hangs": ("dns", hanging_resolver, "the name look-up took longer than"),
    "nobody listens": ("refused", nobody, "refused"),
    "packets are swallowed": ("timeout", swallowing, "did not answer for"),
    "nobody answers the handshake": ("timeout", deaf, "Timeout"),
    "nobody answers the TLS handshake": ("tls", lambda: deaf("wss"), "handshake"),
    "the certificate is somebody else's": ("tls", strange_certificate, "CERTIFICATE_VERIFY_FAILED"),
    "it is no web server": ("handshake", babbling, "cannot connect"),
    "it speaks no TLS": ("tls", lambda: babbling("wss"), "WRONG_VERSION_NUMBER"),
    "it hangs up": (
        "handshake",
        lambda: hanging_up(resets=False),
        "ended before there was an answer",
    ),
    "it resets the line": ("network", lambda: hanging_up(resets=True), "reset by peer"),
    "it redirects to itself": ("http-302", lambda: refusing(HTTPStatus.FOUND, Location="/"), "302"),
    "it redirects to nowhere": (
        "handshake",
        lambda: refusing(HTTPStatus.FOUND, Location="gopher://x/"),
        "not the address of a websocket",
    ),
    "too many requests": ("http-429", lambda: refusing(HTTPStatus.TOO_MANY_REQUESTS), "429"),
    "it fails": ("http-500", lambda: refusing(HTTPStatus.INTERNAL_SERVER_ERROR), "500"),
    "its proxy fails": ("http-502", lambda: refusing(HTTPStatus.BAD_GATEWAY), "502"),
    "it is away": ("http-503", lambda: refusing(HTTPStatus.SERVICE_UNAVAILABLE), "503"),
    "it is a teapot": ("http-other", lambda: refusing(HTTPStatus.IM_A_TEAPOT), "418"),
    "it says why it is away": (
        "http-503",
        lambda: refusing(
            HTTPStatus.SERVICE_UNAVAILABLE, '{"error":"Busy","message":"warming up\\n\\u001b[2J"}'
        ),
        "status 503: Busy: warming up [2J",
    ),
    "it does not know our place": (
        "FutureCursor",
        lambda: refusing(HTTPStatus.BAD_REQUEST, '{"error":"FutureCursor"}'),
        "status 400: FutureCursor: no message",
    ),
    "we are too slow": (
        "ConsumerTooSlow",
        lambda: saying("ConsumerTooSlow", "too far behind"),
        "the source says ConsumerTooSlow: too far behind",
    ),
    "we are too slow, in a goodbye": (
        "ConsumerTooSlow",
        lambda: serving(lambda connection: connection.close(1008, "ConsumerTooSlow")),
        "closed by the server: 1008 POLICY_VIOLATION ConsumerTooSlow",
    ),
    "an error of its own": (
        "error",
        lambda: saying("Tired\n\x1b[31mERROR" + "x" * 10_000, "of it"),
        "the source says Tired [31mERRORxxx",
    ),
    "it says goodbye": (
        "closed",
        lambda: serving(lambda connection: connection.close(1001)),
        "closed by the server: 1001",
    ),
    "the line is cut": ("cut", lambda: serving(cut), "the connection was cut"),
    "it breaks the protocol": ("protocol", lambda: serving(straying), "a frame of an unknown kind"),
    "it talks nonsense": ("unreadable", mumbling, "10 messages in a row cannot be read"),
    "nobody is there any more": ("half-open", vanishing, "our ping was not answered for"),
    "it says nothing": ("silent", lambda: serving(wait_closed), "nothing was said for"),
}
