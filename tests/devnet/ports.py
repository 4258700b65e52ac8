"""Loopback ports for servers that have to be told theirs.

They lie below those that the kernel gives to connections and to whoever asks for any, and each run
of tests (there may be several side by side) takes them in its own order, none twice: so nobody
takes one between our look and the server's start.
"""

from __future__ import annotations

import os
import random
import socket

PORTS = range(12_000, 32_000)

_order = random.Random(os.getpid()).sample(PORTS, len(PORTS))  # noqa: S311  no secret


def free_port() -> int:
    """A port on which nobody listens."""
    while _order:
        port = _order.pop()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("all ports have been used in this run")
