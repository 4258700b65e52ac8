"""Connections to strangers: which addresses may be dialled, and how long a connection may take.

The check is made on the addresses themselves, at the moment of dialling, and the checked address is
the one that is dialled: a name that resolves to something else a moment later gains nothing. The
host name stays what TLS asks for and verifies. Says nothing about URLs, HTTP statuses or retries.
"""

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import certifi

# Addresses tried of those that a name has. A long list is a way to make us knock on many doors.
MAX_ADDRESSES = 4

# Name look-ups under way; further ones wait for a place. The system's resolver cannot be
# interrupted, so one that hangs costs a thread until it gives up by itself, which takes up to half
# a minute.
MAX_LOOKUPS = 64

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
# Outside of it: loopback, link-local, unique local, multicast, IPv4-mapped, both NAT64 ranges.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4: any IPv4 address in disguise
        "3fff::/20",
    )
)

Resolver = Callable[[str, int], list[tuple[Any, ...]]]


def is_public_address(text: str) -> bool:
    """Whether an address, as getaddrinfo writes it, is one of the open internet's hosts."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _REFUSED_V6)


class PrivateAddress(OSError):
    """A host name that leads to an address which is not public."""


class TooManyLookups(TimeoutError):
    """Other name look-ups held all places until the deadline: no fault of this host."""


class Dialler:
    """Turns a host name and a port into a connected socket, or refuses.

    `ca_file` replaces the usual certificate authorities.
    """

    def __init__(
        self, allow_private_hosts: bool, resolve: Resolver, ca_file: str | None = None
    ) -> None:
        self._allow_private_hosts = allow_private_hosts
        self._resolve = resolve
        self._lookups = threading.BoundedSemaphore(MAX_LOOKUPS)
        self._tls = ssl.create_default_context(cafile=ca_file or certifi.where())
        self._tls.set_alpn_protocols(["http/1.1"])

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A socket connected to one of the host's addresses, all of which have been checked.

        Raises OSError, within `timeout_s` in all.
        """
        deadline = time.monotonic() + timeout_s
        found = self._lookup(host, port, deadline)
        if not found:
            raise socket.gaierror("the name has no address")
        for *_, address in found:
            if not self._allow_private_hosts and not is_public_address(address[0]):
                raise PrivateAddress
        return _connect_first(found[:MAX_ADDRESSES], deadline)

    def dial_tls(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """The same over TLS, with a certificate for `host` that has been verified."""
        deadline = time.monotonic() + timeout_s
        sock = self.dial(host, port, timeout_s)
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        # It closes the socket itself when the handshake fails.
        return self._tls.wrap_socket(sock, server_hostname=host)

    def _lookup(self, host: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
        if not self._lookups.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise TooManyLookups
        # The queue is the thread's only way to speak; nobody listens any more when it is late.
        answers: queue.SimpleQueue[list[tuple[Any, ...]] | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(self._resolve(host, port))
            except OSError as error:
                answers.put(error)
            except UnicodeError:
                answers.put(socket.gaierror("not a name that DNS can hold"))
            finally:
                self._lookups.release()

        try:
            threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
        except RuntimeError as error:
            self._lookups.release()
            raise OSError("no thread for a name look-up") from error
        try:
            answer = answers.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise TimeoutError("the name look-up timed out") from None
        if isinstance(answer, OSError):
            raise answer
        return answer


def resolve_name(host: str, port: int) -> list[tuple[Any, ...]]:
    """What the system's resolver says, for TCP. Blocks as long as it likes."""
    # AI_ADDRCONFIG: no IPv6 addresses on a machine that has none itself.
    flags = socket.AI_ADDRCONFIG if "." in host else 0
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


def _connect_first(found: list[tuple[Any, ...]], deadline: float) -> socket.socket:
    problem: OSError = TimeoutError("timed out")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # An address that swallows packets must not eat the time of those after it.
            sock.settimeout(left_s / (len(found) - index))
            sock.connect(address)
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem
