"""`python -m tests.devnet`: the official network for people, until Ctrl-C. Prints one JSON line."""

from __future__ import annotations

import json
import signal
import sys
import threading

from tests.devnet.install import RegistryUnreachable
from tests.devnet.network import OfficialNetwork


def main() -> int:
    stop = threading.Event()
    # Signals only set a flag: a second one must not interrupt the stopping.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with OfficialNetwork() as network:
            line = {**network.info, "postgres": network.postgres.url()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            stop.wait()
    except RegistryUnreachable as unreachable:
        sys.stderr.write(f"{unreachable}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
